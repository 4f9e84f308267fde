//! Moments as headers write them: HTTP's three forms (RFC 9110, section 5.6.7) and RFC 3339.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Unix time in milliseconds. `now`, likewise, decides the century of a year of two digits.
pub fn unix_millis(text: &str, now: u64) -> Option<i64> {
    http(text.trim(), now).or_else(|| rfc3339(text.trim()))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`. The day of the week
/// is not checked.
fn http(text: &str, now: u64) -> Option<i64> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match *words.as_slice() {
        [_, day, month, year, time, "GMT" | "UTC"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = match year.len() {
        2 => century(number(year)?, now),
        4 => number(year)?,
        _ => return None,
    };
    moment(year, i64::try_from(month).ok()? + 1, number(day)?, clock(time)?)
}

/// "A timestamp that appears to be more than 50 years in the future" is of the past.
fn century(year: i64, now: u64) -> i64 {
    const YEAR: u64 = 31_556_952_000;
    let this = 1970 + i64::try_from(now / YEAR).unwrap_or_default();
    let year = this - this % 100 + year;
    if year > this + 50 { year - 100 } else { year }
}

/// `2026-04-27T14:50:15Z`, with a fraction and an offset.
fn rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = number(hours)? * 60 + number(minutes)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    Some(moment(year, month, day, clock(time)?)? - offset * 60_000)
}

/// `08:49:37.5` → milliseconds of the day.
fn clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.splitn(3, ':').map(number);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let digits = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    // A leap second is the last one's twin.
    let fits = hours < 24 && minutes < 60 && seconds <= 60;
    fits.then_some(((hours * 60 + minutes) * 60 + seconds) * 1000 + number(&digits)?)
}

fn number(text: &str) -> Option<i64> {
    (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970 in the proleptic Gregorian calendar: years are counted from March, so that a leap day is the last.
fn moment(year: i64, month: i64, day: i64, millis: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400_000 + millis)
}

/// When the month of a moment began, and when it ends, in UTC; all in Unix time in milliseconds.
pub fn month(now: u64) -> (u64, u64) {
    const DAY: u64 = 86_400_000;
    // Days since 0000-03-01, in eras of 400 years: `moment` backwards.
    let days = now / DAY + 719_468;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5;
    let begin = (now / DAY).saturating_sub(day) * DAY;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let end = moment(i64::try_from(next_year).unwrap_or_default(), i64::try_from(next).unwrap_or(1), 1, 0);
    (begin, end.and_then(|end| u64::try_from(end).ok()).unwrap_or(begin + 31 * DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-09T01:11:49Z
    const NOW: u64 = 1_767_921_109_000;

    #[test]
    fn all_forms_of_a_date() {
        for (text, millis) in [
            // RFC 9110's own examples.
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777_000),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777_000),
            ("Sun Nov  6 08:49:37 1994", 784_111_777_000),
            ("Sunday, 06-Nov-30 08:49:37 GMT", 1_920_185_377_000),
            ("2026-01-09T01:11:49Z", 1_767_921_109_000),
            ("2026-01-09t01:11:49.25z", 1_767_921_109_250),
            ("2026-01-09T03:11:49.123456789+02:00", 1_767_921_109_123),
            ("2026-01-08T20:11:49-05:00", 1_767_921_109_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(unix_millis(text, NOW), Some(millis), "{text}");
        }
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 66 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "2026-13-09T01:11:49Z",
            "2026-01-09T01:11:49",
            "2026-01-09",
            "2026-01-09T01:11:49+é",
            "tomorrow",
            "-1-1-1T-1:-1:-1Z",
        ] {
            assert_eq!(unix_millis(text, NOW), None, "{text}");
        }
    }
}
