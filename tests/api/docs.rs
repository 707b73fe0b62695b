//! What the documentation promises to be there.

use std::path::Path;

/// Everything that the tests and the source define.
fn source(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut text = String::new();
    source(&root.join("tests"), &mut text);
    source(&root.join("src"), &mut text);
    let names = page.split('`').skip(1).step_by(2);
    // A sentence in snake case is the name of a test; settings and fields have fewer words.
    let tests: Vec<_> = names
        .filter(|name| name.matches('_').count() >= 4 && !name.contains([' ', '/', '.']))
        .filter(|name| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(tests.len() > 60, "{}", tests.len());
    let missing: Vec<_> =
        tests.iter().filter(|name| !text.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
