//! Filters as `--filter key=value` gives them: keys are AND-ed, the values of
//! one key OR-ed, but for labels, which are AND-ed too.

use std::collections::BTreeMap;

use skep_proto::v1::FilterTerm;
use skep_proto::{Error, Result};

/// Terms of one request.
const TERMS_MAX: usize = 1_000;

/// The values of each key that was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms(BTreeMap<String, Vec<String>>);

impl Terms {
    /// Reads terms, all of whose keys have to be among `known`.
    pub fn new(terms: &[FilterTerm], known: &[&str]) -> Result<Self> {
        if terms.len() > TERMS_MAX {
            return Err(Error::invalid(
                "filters",
                format!("more than {TERMS_MAX} terms"),
            ));
        }
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (i, term) in terms.iter().enumerate() {
            if !known.contains(&term.key.as_str()) {
                let shown: Vec<&str> = known
                    .iter()
                    .copied()
                    .filter(|k| !k.starts_with('_'))
                    .collect();
                return Err(Error::invalid(
                    format!("filters[{i}]"),
                    format!("invalid filter '{}'", term.key),
                )
                .hint(format!("filters are {}", shown.join(", "))));
            }
            by_key
                .entry(term.key.clone())
                .or_default()
                .push(term.value.clone());
        }
        Ok(Self(by_key))
    }

    /// The values given for `key`; empty when it was not given.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether `key` was not given, or one of its values fits.
    pub fn any(&self, key: &str, mut fits: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether one of the values of `key`, if there are any, begins `text`, in
    /// whatever case.
    pub fn prefix(&self, key: &str, text: &str) -> bool {
        let text = text.to_lowercase();
        self.any(key, |value| text.starts_with(&value.to_lowercase()))
    }

    /// Whether `labels` have all that `key` asks for: `k`, or `k=v`.
    pub fn labels(&self, key: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.values(key).iter().all(|wanted| {
            let (name, value) = match wanted.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (wanted.as_str(), None),
            };
            let found = labels.and_then(|l| l.get(name));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        })
    }

    /// Refuses a value of `key` that is not one of `words`.
    pub fn words(&self, key: &str, words: &[&str]) -> Result<()> {
        for value in self.values(key) {
            if !words.iter().any(|word| word.eq_ignore_ascii_case(value)) {
                return Err(
                    Error::invalid("filters", format!("invalid filter '{key}={value}'"))
                        .hint(format!("{key} can be {}", words.join(", "))),
                );
            }
        }
        Ok(())
    }
}
