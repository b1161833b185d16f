//! Words as a shell would split them, for `--entrypoint` and `--args`.

use super::Parsed;

/// Splits at blanks; single and double quotes and backslashes as in a shell,
/// nothing is expanded.
pub fn words(text: &str) -> Parsed<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed".into()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err("a double quote is not closed".into()),
                        },
                        Some(c) => word.push(c),
                        None => return Err("a double quote is not closed".into()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("nothing follows the last backslash".into()),
            },
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("  a  b ", &["a", "b"]),
            (
                "sh -c 'echo \"hi\" there'",
                &["sh", "-c", "echo \"hi\" there"],
            ),
            (r#"a "b \" c" d"#, &["a", "b \" c", "d"]),
            (r"a\ b", &["a b"]),
            ("a '' b", &["a", "", "b"]),
            (r#""\n""#, &["\\n"]),
        ];
        for (text, split) in cases {
            assert_eq!(words(text).unwrap(), split, "{text}");
        }
        for text in ["'a", "\"a", "a\\"] {
            assert!(words(text).is_err(), "{text}");
        }
    }
}
