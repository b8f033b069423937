//! Reads the text exposition format of Prometheus, and holds a page to its rules.

use std::collections::{BTreeMap, BTreeSet};

/// The series of a page: `name{label="value",..}` as written, and their values.
pub(crate) struct Exposition(BTreeMap<String, String>);

impl Exposition {
    /// Panics where a line is not of the format, a family is declared twice or not at all, its
    /// samples lie apart, a series is there twice, or a histogram's buckets are not cumulative.
    pub(crate) fn parse(page: &str) -> Self {
        assert!(page.ends_with('\n'), "the last line is cut");
        let mut series = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut family = "";
        let mut below = 0.0;
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a text");
                assert!(families.insert(name), "{name} is declared twice");
                assert!(!text.is_empty());
                family = name;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, family);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (id, value) = line.rsplit_once(' ').expect("a value");
                let name = id.split('{').next().expect("a name");
                check_labels(&id[name.len()..]);
                let suffix = name.strip_prefix(family).expect("a sample of its family");
                assert!(
                    ["", "_bucket", "_sum", "_count"].contains(&suffix),
                    "{line}"
                );
                let number: f64 = value.parse().expect("a number");
                if suffix == "_bucket" {
                    assert!(number >= below, "not cumulative: {line}");
                }
                below = if suffix == "_bucket" { number } else { 0.0 };
                let known = series.insert(id.to_owned(), value.to_owned());
                assert!(known.is_none(), "twice: {id}");
            }
        }
        Self(series)
    }

    /// The value of a series of whole numbers.
    pub(crate) fn count(&self, id: &str) -> u64 {
        let value = self.0.get(id);
        let value = value.unwrap_or_else(|| panic!("no {id} among {:#?}", self.0.keys()));
        value.parse().expect("a whole number")
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn check_labels(mut labels: &str) {
    if labels.is_empty() {
        return;
    }
    labels = labels.strip_prefix('{').expect("a brace");
    loop {
        let (name, rest) = labels.split_once("=\"").expect("a label");
        let plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        assert!(!name.is_empty() && name.bytes().all(plain), "{name}");
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("an end") {
                (_, '\\') => assert!(matches!(chars.next(), Some((_, '\\' | '"' | 'n')))),
                (end, '"') => break end,
                _ => {}
            }
        };
        labels = match &rest[end + 1..] {
            "}" => return,
            more => more.strip_prefix(',').expect("a comma"),
        };
    }
}
