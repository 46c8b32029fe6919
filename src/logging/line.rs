//! One line: `2026-11-23T03:42:13.123456Z INFO  raft raftkv::server: text`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::Record;

/// The record as one line; line breaks inside the text are escaped, so that no client can forge a line.
pub(super) fn format(record: &Record<'_>) -> String {
    let mut line = String::with_capacity(160);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(&mut line, since_epoch.as_secs(), since_epoch.subsec_micros());
    super::with_thread_name(|thread| {
        let _ = write!(line, " {:<5} {thread} {}: ", record.level(), record.target());
    });
    let text = line.len();
    let _ = write!(line, "{}", record.args());
    if line[text..].contains(['\n', '\r']) {
        let escaped = line[text..].replace('\n', "\\n").replace('\r', "\\r");
        line.truncate(text);
        line.push_str(&escaped);
    }
    line.push('\n');
    line
}

/// UTC, RFC 3339.
fn timestamp(line: &mut String, seconds: u64, micros: u32) {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let _ = write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// Days since 1970-01-01 to year, month and day. Years start in March here, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097; // 400 years
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(19_723), (2024, 1, 1));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }

    #[test]
    fn a_line_break_in_the_text_cannot_start_a_line() {
        let record = Record::builder().args(format_args!("a\nb\r")).level(log::Level::Warn).target("here").build();
        let line = format(&record);
        assert!(line.ends_with("here: a\\nb\\r\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
