//! Numbers and enumerations of the interface as words, and text that is safe on a terminal.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::v1::{Affinity, Backend, BackendState, Forwarding, ProbeKind, Scheduler};

use crate::output::Tone;

pub(crate) fn state(state: BackendState) -> (String, Tone) {
    let (word, tone) = match state {
        BackendState::Unspecified => ("unknown", Tone::Warning),
        BackendState::Pending => ("pending", Tone::Warning),
        BackendState::Healthy => ("healthy", Tone::Good),
        BackendState::Draining => ("draining", Tone::Warning),
        BackendState::Unhealthy => ("unhealthy", Tone::Bad),
        BackendState::Evicted => ("evicted", Tone::Bad),
    };
    (word.to_owned(), tone)
}

/// The words of an enumeration; the first is the default.
pub(crate) type Words<T> = &'static [(&'static str, T)];

pub(crate) const SCHEDULERS: Words<Scheduler> =
    &[("maglev", Scheduler::Maglev), ("ring", Scheduler::Ring), ("wrr", Scheduler::Wrr)];
pub(crate) const FORWARDINGS: Words<Forwarding> = &[
    ("ipip", Forwarding::Ipip),
    ("gre", Forwarding::Gre),
    ("gue", Forwarding::Gue),
    ("l2dsr", Forwarding::L2dsr),
    ("nat", Forwarding::Nat),
];
pub(crate) const AFFINITIES: Words<Affinity> =
    &[("flow", Affinity::Flow), ("source", Affinity::Source), ("quic", Affinity::Quic)];
pub(crate) const PROBES: Words<ProbeKind> = &[
    ("tcp", ProbeKind::Tcp),
    ("http", ProbeKind::Http),
    ("udp", ProbeKind::Udp),
    ("command", ProbeKind::Command),
];

/// The word of a value; the default's for one that is not specified.
pub(crate) fn word<T: PartialEq>(words: Words<T>, value: T) -> &'static str {
    let found = words.iter().find(|(_, one)| *one == value).or(words.first());
    found.map_or("", |(word, _)| word)
}

/// # Errors
/// It is none of the words: lists them.
pub(crate) fn value<T: Copy>(words: Words<T>, text: &str) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let expected: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is not known (expected {})", expected.join(", "))
    })
}

/// `192.0.2.11:80`, `[2001:db8::1]:80`.
pub(crate) fn address(backend: &Backend) -> String {
    match backend.ip.contains(':') {
        true => format!("[{}]:{}", backend.ip, backend.port),
        false => format!("{}:{}", backend.ip, backend.port),
    }
}

/// `az=a rack=7`.
pub(crate) fn labels(backend: &Backend) -> String {
    let labels: Vec<_> =
        backend.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() { "-".to_owned() } else { labels.join(" ") }
}

/// Whole units, the two largest: `3s`, `5m10s`, `2h5m`, `4d1h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// How long ago a time of another machine is, by this one's clock; `-` for none.
pub(crate) fn age(at_ns: u64, now_ns: u64) -> String {
    match at_ns {
        0 => "-".to_owned(),
        _ => duration(Duration::from_nanos(now_ns.saturating_sub(at_ns))),
    }
}

/// Nanoseconds since 1970, now.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `2024-05-06T07:08:09Z` (RFC 3339) of nanoseconds since 1970.
pub(crate) fn time(at_ns: u64) -> String {
    let seconds = at_ns / 1_000_000_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day since 1970-01-01. Years begin in March here, so that the leap day
/// is the last of the year; an era is 400 years, 146,097 days.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_month)
}

/// Text of somebody else's on one line: control characters are shown, not obeyed.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape = |one: char| match one.is_control() {
            true => one.escape_default().to_string(),
            false => one.to_string(),
        };
        Cow::Owned(text.chars().map(escape).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (310, "5m10s"), (7_500, "2h5m"), (349_200, "4d1h")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(age(0, 5), "-");
        assert_eq!(age(7, 5), "0s", "a clock that is ahead");
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000_000), text);
        }
    }

    #[test]
    fn addresses_of_version_6_stand_in_brackets() {
        let mut backend = Backend { ip: "2001:db8::1".into(), port: 80, ..Backend::default() };
        assert_eq!(address(&backend), "[2001:db8::1]:80");
        backend.ip = "192.0.2.1".into();
        assert_eq!(address(&backend), "192.0.2.1:80");
    }
}
