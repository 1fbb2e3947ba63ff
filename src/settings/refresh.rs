//! Periods after which an image is built again although nothing we can see has changed.

use std::str::FromStr;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// How long an image may stay as it is (`--refresh`).
///
/// Time is cut into periods that are the same for everyone, so that all machines agree on the key:
/// days and ISO weeks in UTC, or runs of N days counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// A new period every day.
    Daily,
    /// A new period every Monday.
    Weekly,
    /// A new period every calendar month.
    Monthly,
    /// A new period every so many days.
    Days(u32),
}

impl Refresh {
    /// The period that `now` falls into, as it stands in the key.
    #[must_use]
    pub fn period(self, now: Timestamp) -> String {
        let today = now.to_zoned(TimeZone::UTC).date();
        match self {
            Self::Daily => today.to_string(),
            Self::Weekly => {
                let week = today.iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Self::Monthly => format!("{}-{:02}", today.year(), today.month()),
            Self::Days(days) => {
                let since = today.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
                format!("{days}d-{}", since.div_euclid(i64::from(days)))
            }
        }
    }
}

/// The text names no period.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write daily, weekly, monthly or a number of days such as 30d")]
pub struct InvalidRefresh;

impl FromStr for Refresh {
    type Err = InvalidRefresh;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "daily" => Ok(Self::Daily),
            "weekly" => Ok(Self::Weekly),
            "monthly" => Ok(Self::Monthly),
            _ => match text.strip_suffix('d').map(str::parse) {
                Some(Ok(days @ 1..=3650)) => Ok(Self::Days(days)),
                _ => Err(InvalidRefresh),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(refresh: &str, now: &str) -> String {
        refresh.parse::<Refresh>().unwrap().period(now.parse().unwrap())
    }

    #[test]
    fn a_period_lasts_as_long_as_its_name_says() {
        assert_eq!(period("daily", "2026-11-23T23:59:59Z"), "2026-11-23");
        assert_eq!(period("weekly", "2026-11-23T00:00:00Z"), "2026-W48");
        assert_eq!(period("weekly", "2026-11-29T23:59:59Z"), "2026-W48");
        assert_eq!(period("weekly", "2026-11-30T00:00:00Z"), "2026-W49");
        assert_eq!(period("weekly", "2027-01-01T00:00:00Z"), "2026-W53");
        assert_eq!(period("monthly", "2026-11-30T12:00:00Z"), "2026-11");
        assert_eq!(period("2d", "1970-01-02T23:00:00Z"), "2d-0");
        assert_eq!(period("2d", "1970-01-03T00:00:00Z"), "2d-1");
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", "d", "0d", "-1d", "30", "yearly", "99999d", "1.5d"] {
            assert_eq!(text.parse::<Refresh>(), Err(InvalidRefresh), "{text}");
        }
    }
}
