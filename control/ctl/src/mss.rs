//! The MSS clamp of a VIP: as a word, a number, and two fields of a message.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use proto::v1;

/// Bytes of a segment.
const BYTES: RangeInclusive<u16> = 88..=9_176;

/// The largest MSS that a client's SYN may name on its way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MssClamp {
    /// Any.
    #[default]
    Off,
    /// What fits one packet to the backend.
    Auto,
    /// So many bytes, 88 to 9176.
    To(u16),
}

impl MssClamp {
    pub(crate) fn from_message(vip: &v1::Vip) -> Self {
        match u16::try_from(vip.mss_clamp) {
            _ if vip.mss_clamp_auto => Self::Auto,
            Ok(0) => Self::Off,
            Ok(bytes) => Self::To(bytes),
            // No controller has it.
            Err(_) => Self::To(u16::MAX),
        }
    }

    pub(crate) fn lay_over(self, vip: &mut v1::Vip) {
        vip.mss_clamp_auto = self == Self::Auto;
        vip.mss_clamp = match self {
            Self::To(bytes) => bytes.into(),
            Self::Off | Self::Auto => 0,
        };
    }
}

impl FromStr for MssClamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = text.parse().ok().filter(|bytes| BYTES.contains(bytes));
        match (text, bytes) {
            ("off", _) => Ok(Self::Off),
            ("auto", _) => Ok(Self::Auto),
            (_, Some(bytes)) => Ok(Self::To(bytes)),
            (_, None) => {
                let (least, most) = (BYTES.start(), BYTES.end());
                Err(format!("{text:?} is no segment size ({least} to {most}, \"auto\" or \"off\")"))
            }
        }
    }
}

impl fmt::Display for MssClamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str("auto"),
            Self::To(bytes) => bytes.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_sent_and_shown() {
        for (text, bytes, auto) in
            [("off", 0, false), ("auto", 0, true), ("88", 88, false), ("9176", 9_176, false)]
        {
            let clamp: MssClamp = text.parse().unwrap();
            let mut message = v1::Vip::default();
            clamp.lay_over(&mut message);
            assert_eq!((message.mss_clamp, message.mss_clamp_auto), (bytes, auto), "{text}");
            assert_eq!(MssClamp::from_message(&message), clamp);
            assert_eq!(clamp.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_segment_size_is_refused() {
        for text in ["", "87", "9177", "65536", "-1", "Auto", "1400 "] {
            assert!(text.parse::<MssClamp>().is_err(), "{text:?}");
        }
    }
}
