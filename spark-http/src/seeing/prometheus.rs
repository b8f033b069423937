//! The text exposition format of Prometheus, version 0.0.4.
//!
//! Knows the format and nothing of what is written in it.

use std::{borrow::Cow, fmt, fmt::Write as _, time::Duration};

/// A page of metrics in the making. A family's samples follow its head.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One family of a [`Page`].
#[derive(Debug)]
pub(crate) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

/// A label and its value, which may be any text.
pub(crate) type Label<'a> = (&'static str, &'a str);

// === impl Page ===

impl Page {
    /// Begins a family. `help` is one line.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        put(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
        Family {
            page: &mut self.0,
            name,
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

// === impl Family ===

impl Family<'_> {
    pub(crate) fn sample(&mut self, labels: &[Label<'_>], value: impl fmt::Display) {
        self.suffixed("", labels, None, value);
    }

    /// The samples of a histogram: `buckets` are upper bounds and how many were counted up to
    /// each and above the one before; `beyond` is how many were above all.
    pub(crate) fn histogram(
        &mut self,
        labels: &[Label<'_>],
        buckets: impl IntoIterator<Item = (Duration, u64)>,
        beyond: u64,
        total: Duration,
    ) {
        let mut count = 0;
        for (bound, counted) in buckets {
            count += counted;
            let bound = bound.as_secs_f64().to_string();
            self.suffixed("_bucket", labels, Some(&bound), count);
        }
        count += beyond;
        self.suffixed("_bucket", labels, Some("+Inf"), count);
        self.suffixed("_sum", labels, None, total.as_secs_f64());
        self.suffixed("_count", labels, None, count);
    }

    fn suffixed(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        bound: Option<&str>,
        value: impl fmt::Display,
    ) {
        let name = self.name;
        put(self.page, format_args!("{name}{suffix}"));
        let bound = bound.map(|bound| ("le", bound));
        for (index, (label, text)) in labels.iter().copied().chain(bound).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = escaped(text);
            put(self.page, format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() && bound.is_none() {
            ""
        } else {
            "}"
        };
        put(self.page, format_args!("{after} {value}\n"));
    }
}

fn put(page: &mut String, text: fmt::Arguments<'_>) {
    // A `String` takes everything.
    let _ = page.write_fmt(text);
}

fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::with_capacity(value.len() + 2);
    for char in value.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            char => escaped.push(char),
        }
    }
    Cow::Owned(escaped)
}

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_are_cumulative() {
        let mut page = Page::default();
        page.family("up", Kind::Gauge, "Whether it is up")
            .sample(&[], 1);
        let mut family = page.family("times_seconds", Kind::Histogram, "Times");
        let bounds = [
            (Duration::from_micros(50), 2),
            (Duration::from_millis(2_500), 1),
        ];
        family.histogram(
            &[("name", "a\\b\"c\nd")],
            bounds,
            4,
            Duration::from_millis(1_500),
        );
        assert_eq!(
            page.into_text(),
            "# HELP up Whether it is up\n\
             # TYPE up gauge\n\
             up 1\n\
             # HELP times_seconds Times\n\
             # TYPE times_seconds histogram\n\
             times_seconds_bucket{name=\"a\\\\b\\\"c\\nd\",le=\"0.00005\"} 2\n\
             times_seconds_bucket{name=\"a\\\\b\\\"c\\nd\",le=\"2.5\"} 3\n\
             times_seconds_bucket{name=\"a\\\\b\\\"c\\nd\",le=\"+Inf\"} 7\n\
             times_seconds_sum{name=\"a\\\\b\\\"c\\nd\"} 1.5\n\
             times_seconds_count{name=\"a\\\\b\\\"c\\nd\"} 7\n"
        );
    }
}
