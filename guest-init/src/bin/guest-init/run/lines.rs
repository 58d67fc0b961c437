//! The `enable` and `disable` lines of a scheduler: what is written to files before it is started, and after its end.

use std::fs::File;
use std::io::Write;

use guest_init::message::{EchoLine, FromTest, SchedulerJob, ToHost};
use rkyv::rancor;

use super::JobRun;
use crate::Failure;
use crate::link::Link;

impl JobRun<'_> {
    /// Write the `enable` lines. From the first one on there is something to undo.
    pub(super) fn switch_on(&mut self, job: &SchedulerJob) -> Result<(), Failure> {
        if !job.enable.is_empty() {
            self.to_disable.clone_from(&job.disable);
        }
        job.enable.iter().try_for_each(|line| {
            write(line).map_err(|why| format!("the scheduler's `enable` line `{}`: {why}", line.line))?;
            tell(self.link, "enable", line);
            Ok(())
        })
    }

    /// Write the `disable` lines, all of them whatever comes of each, if the scheduler was switched on.
    pub(super) fn switch_off(&mut self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        for line in std::mem::take(&mut self.to_disable) {
            match write(&line) {
                Ok(()) => tell(self.link, "disable", &line),
                Err(why) => faults.push(format!("the scheduler's `disable` line `{}`: {why}", line.line)),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// As a shell does it, but for making the file: what is not there is misspelt, or not in this kernel.
fn write(line: &EchoLine) -> Result<(), Failure> {
    let path = &line.path;
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(|error| format!("opening {path}: {error}"))?;
    file.write_all(line.text.as_bytes()).map_err(|error| format!("writing to {path}: {error}"))
}

/// The trace has it as an operation.
fn tell(link: &mut Link, name: &str, line: &EchoLine) {
    let said = FromTest::Op { name: name.to_owned(), detail: line.line.clone() };
    match rkyv::to_bytes::<rancor::Error>(&said) {
        Ok(archive) => link.send(&ToHost::Test(archive.to_vec())),
        Err(error) => link.note(&format!("archiving a message: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_writes_to_a_file_that_is_there() {
        let file = std::env::temp_dir().join(format!("guest-init-line-{}", std::process::id()));
        let path = file.to_str().expect("UTF-8").to_owned();
        let line = EchoLine { line: String::new(), path: path.clone(), text: "1\n".to_owned() };
        assert!(write(&line).is_err_and(|why| why.contains("opening") && why.contains(&path)));
        std::fs::write(&file, "old").expect("a file");
        write(&line).expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "1\n");
        std::fs::remove_file(file).expect("removed");
    }
}
