//! Dates as people and spreadsheets write them.

use jiff::civil::Date;

use super::Diagnostics;
use super::csv_file::each_record_separated;

/// The columns of a list of exceptions that contain dates.
const DATE_COLUMNS: [&str; 2] = ["created", "expires"];

/// The order of day and month in the dates of a file. It is settled by dates that can be read in
/// only one order, because a spreadsheet writes all dates of a file alike.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct DateOrder {
    /// The line of the first date that is valid only with the day first.
    day_first: Option<usize>,
    /// The line of the first date that is valid only with the month first.
    month_first: Option<usize>,
}

/// The two readings of a date such as `01/02/2027`: day first, and month first.
type Readings = [Option<Date>; 2];

impl DateOrder {
    /// Determines the order of day and month in a list of exceptions.
    pub fn of(separator: u8, text: &str) -> Self {
        let mut order = Self::default();
        // The same problems are reported later, when the rows are read.
        let mut ignored = Diagnostics::of("");
        each_record_separated(separator, text, &DATE_COLUMNS, &mut ignored, |record, _| {
            for column in DATE_COLUMNS {
                let line = Some(record.line);
                match readings(record.get(column)) {
                    Some([Some(_), None]) => order.day_first = order.day_first.or(line),
                    Some([None, Some(_)]) => order.month_first = order.month_first.or(line),
                    _ => {}
                }
            }
        });
        order
    }

    /// Parses a date: `2027-01-31`, `2027/1/31`, `31.01.2027`, or a date with slashes or hyphens
    /// and the year at the end, whose day and month are in the order of the file.
    ///
    /// # Errors
    ///
    /// Returns a message if the text is not a date, or if the order is not known and would make a
    /// difference.
    pub fn read(self, text: &str) -> Result<Date, String> {
        if let Some(date) = unambiguous(text) {
            return Ok(date);
        }
        let wrong = || format!("\"{text}\" is not a valid date (for example 2027-01-31)");
        let (day_first, month_first) = match readings(text).ok_or_else(wrong)? {
            [Some(day_first), Some(month_first)] => (day_first, month_first),
            readings => return readings.into_iter().flatten().next().ok_or_else(wrong),
        };
        let settled = match (self.day_first, self.month_first) {
            _ if day_first == month_first => return Ok(day_first),
            (Some(_), None) => return Ok(day_first),
            (None, Some(_)) => return Ok(month_first),
            (None, None) => "no other date in the file shows which".to_owned(),
            (Some(a), Some(b)) => {
                format!("line {a} has the day first, but line {b} has the month first")
            }
        };
        Err(format!(
            "\"{text}\" is {day_first} or {month_first}: {settled}; write dates like 2027-01-31"
        ))
    }
}

/// Parses a date that has only one reading, because it starts with the year, or is written with
/// dots and therefore starts with the day.
fn unambiguous(text: &str) -> Option<Date> {
    if let Ok(date) = text.parse() {
        return Some(date);
    }
    if let Some([year, month, day]) = numbers(text, '/').filter(|[year, ..]| *year > 31) {
        return Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok();
    }
    let [day, month, year] = numbers(text, '.')?;
    full_date(day, month, year)
}

/// Returns both readings of a date with slashes or hyphens and the year at the end; `None` if the
/// text does not have this form.
fn readings(text: &str) -> Option<Readings> {
    let [first, second, year] = numbers(text, '/').or_else(|| numbers(text, '-'))?;
    Some([full_date(first, second, year), full_date(second, first, year)])
}

/// Returns the date if it is a day of the calendar and its year has four digits.
fn full_date(day: i16, month: i16, year: i16) -> Option<Date> {
    let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok();
    date.filter(|_| year >= 1000)
}

/// Parses three numbers that are separated by `separator`. Each has one to four digits.
fn numbers(text: &str, separator: char) -> Option<[i16; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let part = part.trim();
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i16>().ok().filter(|_| is_number)
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(dates: &[&str]) -> DateOrder {
        let rows: String = dates.iter().map(|date| format!("{date};\n")).collect();
        DateOrder::of(b';', &format!("created;expires\n{rows}"))
    }

    #[test]
    fn other_dates_settle_what_a_date_means() {
        let date = |text: &str| text.parse::<Date>().unwrap();
        let open = order(&["01/02/2027", "05/05/2027"]);
        for (text, read) in [
            ("2027-01-31", "2027-01-31"),
            ("31.01.2027", "2027-01-31"),
            ("1.2.2027", "2027-02-01"),
            ("2027/1/31", "2027-01-31"),
            ("31/12/2026", "2026-12-31"),
            ("12/31/2026", "2026-12-31"),
            ("31-12-2026", "2026-12-31"),
            ("05/05/2027", "2027-05-05"),
        ] {
            assert_eq!(open.read(text), Ok(date(read)), "{text}");
        }
        let error = open.read("01/02/2027").unwrap_err();
        assert!(error.contains("2027-02-01 or 2027-01-02: no other date"), "{error}");
        assert_eq!(order(&["31/12/2026"]).read("01/02/2027"), Ok(date("2027-02-01")));
        assert_eq!(order(&["12/31/2026"]).read("01/02/2027"), Ok(date("2027-01-02")));
        let error = order(&["31/12/2026", "12/31/2026"]).read("01/02/2027").unwrap_err();
        assert!(error.contains("line 2 has the day first, but line 3 has the month"), "{error}");
        for text in
            ["31/02/2027", "31.13.2027", "12/31/26", "1/2", "soon", "1/2/3/2027", "-1/2/2027"]
        {
            assert!(open.read(text).is_err(), "{text}");
        }
    }
}
