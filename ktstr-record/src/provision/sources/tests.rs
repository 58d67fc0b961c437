//! The formats' rules, the choice among entries, and that no text makes a parser panic.

use proptest::prelude::*;

use super::*;

fn debian(codename: &str) -> OsRelease {
    OsRelease { id: "debian".into(), codename: codename.into() }
}

fn parsed(text: &str) -> Entry {
    choose(&deb822::parse(text).unwrap(), &debian("bookworm")).unwrap()
}

#[test]
fn of_several_stanzas_the_archive_is_chosen_and_not_security() {
    let entry = parsed(
        "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
         # a comment\nTypes: deb deb-src\n# within\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
         Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    );
    assert_eq!(entry.uris, ["http://mirror.example/debian"]);
    assert_eq!(
        entry.render(&["trixie", "sid"]),
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie sid\nComponents: main\n\
         Architectures: amd64\nTargets: Packages\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
}

#[test]
fn a_disabled_stanza_is_not_used() {
    let text = "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\nEnabled: No\n";
    assert!(deb822::parse(text).unwrap().is_empty());
    assert_eq!(deb822::parse(&text.replace("No", "yes")).unwrap().len(), 1);
}

#[test]
fn a_key_spelled_out_in_the_stanza_survives_the_rendering() {
    let key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGA=\n -----END PGP PUBLIC KEY BLOCK-----\n";
    let text = format!("Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n{key}");
    assert!(parsed(&text).render(&["sid"]).ends_with(key));
}

#[test]
fn one_line_options_become_fields() {
    let text = "# deb http://old.example/debian buster main\n\
        deb-src http://m.example/debian bookworm main\n\
        deb [ arch=amd64,i386 signed-by=/k.gpg trusted=yes lang-=de check-valid-until=no ] http://m.example/debian bookworm main contrib # c\n\
        deb cdrom:[Debian]/ bookworm main\n";
    let entries = one_line::parse(text);
    // The CD-ROM's name is in brackets and holds no blank here, so it parses; it is never chosen.
    let entry = choose(&entries.unwrap(), &debian("bookworm")).unwrap();
    assert_eq!(entry.components, ["main", "contrib"]);
    let rendered = entry.render(&["trixie"]);
    assert!(rendered.ends_with("Signed-By: /k.gpg\nTrusted: yes\nCheck-Valid-Until: no\n"), "{rendered}");
    assert!(rendered.contains("Architectures: amd64\n") && !rendered.contains("i386"), "{rendered}");
}

#[test]
fn broken_lines_are_named() {
    assert_eq!(one_line::parse("\ndeb [arch=amd64 http://m.example x main").unwrap_err().line, 2);
    assert!(one_line::parse("deb http://m.example").is_err());
    assert_eq!(deb822::parse("Types: deb\nnonsense\n").unwrap_err().line, 2);
    assert_eq!(deb822::parse(" continued\n").unwrap_err().line, 1);
}

#[test]
fn a_third_party_that_names_its_suite_after_debian_loses() {
    let text = "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://apt.vendor.example bookworm main\n\
        deb http://m.example/debian bookworm main\ndeb http://m.example/debian bookworm-backports main\n";
    let entry = choose(&one_line::parse(text).unwrap(), &debian("bookworm")).unwrap();
    assert_eq!(entry.uris, ["http://m.example/debian"]);
    assert_eq!(entry.suites, ["bookworm", "bookworm-backports"]);
}

#[test]
fn a_derivative_has_a_mirror_only_where_it_lists_debian_itself() {
    let ubuntu = OsRelease { id: "ubuntu".into(), codename: "noble".into() };
    let own = one_line::parse("deb http://m.example/ubuntu noble main universe\n").unwrap();
    assert_eq!(choose(&own, &ubuntu), None);
    let with_debian = one_line::parse("deb http://m.example/debian trixie main\n").unwrap();
    assert!(choose(&with_debian, &ubuntu).is_some());
}

#[test]
fn an_entry_for_another_architecture_is_not_used() {
    let entries = one_line::parse("deb [arch=arm64] http://m.example/debian trixie main\n").unwrap();
    assert_eq!(choose(&entries, &debian("trixie")), None);
}

#[test]
fn a_host_without_a_debian_entry_is_told_where_was_looked_and_what_to_supply() {
    let root = tempfile::tempdir().unwrap();
    let parts = root.path().join("etc/apt/sources.list.d");
    fs::create_dir_all(&parts).unwrap();
    fs::write(root.path().join("etc/os-release"), "ID=ubuntu\nVERSION_CODENAME=noble\n").unwrap();
    fs::write(
        parts.join("ubuntu.sources"),
        "Types: deb\nURIs: http://m.example/ubuntu\nSuites: noble\nComponents: main\n",
    )
    .unwrap();
    fs::write(parts.join("old.sources.save"), "garbage").unwrap();
    let host = Host { root: root.path().to_owned(), path: Default::default(), qemu: None, bpf_root: None };
    let text = debian_mirror(&host, "the emulator", "set KTSTR_QEMU").unwrap_err().to_string();
    for part in ["the emulator", "etc/apt/sources.list.d", "`ubuntu` with 1 other", "set KTSTR_QEMU"] {
        assert!(text.contains(part), "{text}");
    }
    fs::write(parts.join("debian.list"), "deb http://m.example/debian sid main\n").unwrap();
    assert_eq!(debian_mirror(&host, "x", "y").unwrap().suites, ["sid"]);
    fs::write(parts.join("bad.list"), "\n\ndeb [x\n").unwrap();
    let text = debian_mirror(&host, "x", "y").unwrap_err().to_string();
    assert!(text.contains("bad.list:3: "), "{text}");
}

prop_compose! {
    fn word()(text in "[a-z][a-z0-9.+/:-]{0,12}") -> String { text }
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "(deb |\\[|\\]|=|:|#|\n|\t| |[a-zA-Z]|\\PC){0,80}") {
        let _ = one_line::parse(&text);
        let _ = deb822::parse(&text);
    }

    #[test]
    fn what_is_rendered_reads_back_as_the_same_entry(
        uris in prop::collection::vec(word(), 1..3),
        suites in prop::collection::vec(word(), 1..4),
        key in word(),
    ) {
        let entry = Entry {
            uris,
            suites: vec![],
            components: vec!["main".into()],
            options: vec![("Signed-By".into(), key)],
        };
        let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
        let back = deb822::parse(&entry.render(&suites)).unwrap();
        prop_assert_eq!(back.len(), 1);
        prop_assert_eq!(&back[0].uris, &entry.uris);
        prop_assert_eq!(&back[0].suites, &suites);
        prop_assert_eq!(back[0].option("signed-by"), entry.option("Signed-By"));
    }
}
