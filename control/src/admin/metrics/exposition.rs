//! The Prometheus text format, version 0.0.4, as far as counters and gauges need it.
//!
//! ```text
//! # HELP weir_drops_total Packets dropped, by reason.
//! # TYPE weir_drops_total counter
//! weir_drops_total{reason="no_vip"} 17
//! ```
//!
//! Three rules make it right: all samples of a name stand together under one HELP and one TYPE
//! line; in help texts backslash and line feed are escaped, in label values the quotation mark
//! too; every line ends in a line feed. A [`Metric`] is declared once and used for the rendering,
//! the documentation and the tests.

use std::fmt::Write as _;

/// What `Content-Type` says of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters only go up (until the node starts anew); gauges go both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word of the TYPE line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// The declaration of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The names of its labels; a sample has a value for each.
    pub labels: &'static [&'static str],
    /// What one is; `1` for numbers that are 0 or 1.
    pub unit: &'static str,
    /// What it means: one sentence.
    pub help: &'static str,
}

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// A metric whose samples are being written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    metric: &'static Metric,
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(u64),
    Float(f64),
}

impl Exposition {
    /// Begins a metric; to be called once for each.
    pub(super) fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        let text = &mut self.text;
        text.push_str("# HELP ");
        text.push_str(metric.name);
        text.push(' ');
        escape(text, metric.help, false);
        text.push_str("\n# TYPE ");
        text.push_str(metric.name);
        text.push(' ');
        text.push_str(metric.kind.name());
        text.push('\n');
        Family { text, metric }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Writes a sample; `values` in the order of the metric's labels.
    pub(super) fn sample(&mut self, values: &[&str], number: impl Into<Number>) -> &mut Self {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.text.push_str(self.metric.name);
        let mut before = '{';
        for (label, value) in self.metric.labels.iter().zip(values) {
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        // Writing to a string does not fail.
        let _ = match number.into() {
            Number::Integer(value) => writeln!(self.text, " {value}"),
            Number::Float(value) if value.is_finite() => writeln!(self.text, " {value}"),
            Number::Float(value) if value.is_nan() => writeln!(self.text, " NaN"),
            Number::Float(value) => {
                writeln!(self.text, " {}", if value > 0.0 { "+Inf" } else { "-Inf" })
            }
        };
        self
    }
}

fn escape(text: &mut String, raw: &str, quoted: bool) {
    if !raw.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        text.push_str(raw);
        return;
    }
    for character in raw.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Integer(u64::from(value))
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Integer(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Integer(u64::from(value))
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRIC: Metric = Metric {
        name: "weir_test",
        kind: Kind::Gauge,
        labels: &["a", "b"],
        unit: "tests",
        help: "Back\\slash, \"quotes\"\nand a line.",
    };

    #[test]
    fn help_and_labels_are_escaped_each_in_its_own_way() {
        let mut exposition = Exposition::default();
        exposition.family(&METRIC).sample(&["x\\y", "\"q\"\nz"], 1u64);
        assert_eq!(
            exposition.finish(),
            "# HELP weir_test Back\\\\slash, \"quotes\"\\nand a line.\n\
             # TYPE weir_test gauge\n\
             weir_test{a=\"x\\\\y\",b=\"\\\"q\\\"\\nz\"} 1\n"
        );
    }

    #[test]
    fn every_number_has_a_form() {
        static PLAIN: Metric = Metric { labels: &[], ..METRIC };
        let mut exposition = Exposition::default();
        exposition
            .family(&PLAIN)
            .sample(&[], u64::MAX)
            .sample(&[], 0.25)
            .sample(&[], true)
            .sample(&[], f64::INFINITY)
            .sample(&[], f64::NEG_INFINITY)
            .sample(&[], f64::NAN);
        let text = exposition.finish();
        let values: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            values,
            [
                "weir_test 18446744073709551615",
                "weir_test 0.25",
                "weir_test 1",
                "weir_test +Inf",
                "weir_test -Inf",
                "weir_test NaN"
            ]
        );
    }
}
