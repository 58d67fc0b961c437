//! What a template keeps of the emulator beside RAM.

use serde_json::json;

use super::stale::Places;

/// What a template keeps of the emulator: a line of JSON, and the emulator's own bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Saved<S> {
    /// Where stale breakpoints are mended, if that is known.
    pub(super) places: Option<Places>,
    /// CPUs and devices.
    pub(super) state: S,
}

impl Saved<Vec<u8>> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = json!(self.places).to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.state);
        bytes
    }
}

impl<'b> Saved<&'b [u8]> {
    pub(super) fn decode(bytes: &'b [u8]) -> Result<Self, String> {
        let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("its state has no first line")?;
        let (line, state) = bytes.split_at(end);
        let places =
            serde_json::from_slice(line).map_err(|error| format!("its state's first line: {error}"))?;
        Ok(Self { places, state: &state[1..] })
    }
}

#[cfg(test)]
mod tests {
    use super::Saved;

    #[test]
    fn what_is_saved_is_read_back() {
        for places in [
            None,
            Some(
                serde_json::from_str(r#"{"chain":1,"loading":[{"start":2,"end":3}],"die":4,"ip":5}"#)
                    .unwrap(),
            ),
        ] {
            let bytes = Saved { places: places.clone(), state: b"a\nb".to_vec() }.encode();
            assert_eq!(Saved::decode(&bytes), Ok(Saved { places, state: &b"a\nb"[..] }));
        }
        for (damaged, why) in [(&b"QEVM"[..], "no first line"), (b"QE\nVM", "first line: expected")] {
            let found = Saved::decode(damaged).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
