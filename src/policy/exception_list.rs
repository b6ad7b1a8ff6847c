//! Adds lines to a list of exceptions without changing the rest of the file.

use csv::{ReaderBuilder, Terminator, WriterBuilder};

use super::TICKET_COLUMN;
use super::csv_file::{is_named, separator_of, without_separator_line};
use crate::model::escape_csv_formula;

/// The cells of a new exception, as text.
#[derive(Clone, Default, Debug)]
pub struct ListedException {
    /// The name of the exception.
    pub id: String,
    /// The client.
    pub from: String,
    /// The server.
    pub to: String,
    /// The protocol above IP, or `*`.
    pub transport: String,
    /// The port, or `*`.
    pub port: String,
    /// The person who is responsible for the exception.
    pub owner: String,
    /// The reason why the exception is needed.
    pub reason: String,
    /// The person who approved the exception.
    pub approved_by: String,
    /// The day on which the exception was created.
    pub created: String,
    /// The last day on which the exception is valid.
    pub expires: String,
    /// The ticket of the approval, or an empty string.
    pub ticket: String,
}

impl ListedException {
    /// Returns the cell of the column with this header. Columns that the program does not know are
    /// empty.
    fn cell(&self, header: &str) -> &str {
        match header.trim().to_ascii_lowercase().as_str() {
            "id" => &self.id,
            "from" => &self.from,
            "to" => &self.to,
            "transport" => &self.transport,
            "port" => &self.port,
            "direction" => "to-server",
            "owner" => &self.owner,
            "reason" => &self.reason,
            "approved_by" => &self.approved_by,
            "created" => &self.created,
            "expires" => &self.expires,
            TICKET_COLUMN => &self.ticket,
            _ => "",
        }
    }
}

/// Appends exceptions to the text of a list, and returns the new text. The new lines use the
/// columns, the separator and the line endings of the list.
///
/// # Errors
///
/// Returns a message if the header cannot be read, or if an exception has a ticket but the list has
/// no column for tickets.
pub fn add_exceptions(text: &str, new: &[ListedException]) -> Result<String, String> {
    let separator = separator_of(text);
    let start = without_separator_line(text);
    let mut reader =
        ReaderBuilder::new().comment(Some(b'#')).delimiter(separator).from_reader(start.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?;
    let has_tickets = header.iter().any(|cell| is_named(cell, TICKET_COLUMN));
    if new.iter().any(|exception| !exception.ticket.is_empty()) && !has_tickets {
        return Err(format!(
            "the list has no column \"{TICKET_COLUMN}\"; add the column to the header and to each exception, or omit --ticket"
        ));
    }
    let windows = text.contains("\r\n");
    let end = if windows { Terminator::CRLF } else { Terminator::Any(b'\n') };
    let mut writer = WriterBuilder::new()
        .delimiter(separator)
        .comment(Some(b'#'))
        .terminator(end)
        .from_writer(Vec::new());
    for exception in new {
        let cells = header.iter().map(|cell| escape_csv_formula(exception.cell(cell)));
        let cells: Vec<String> = cells.map(Into::into).collect();
        writer.write_record(&cells).map_err(|error| error.to_string())?;
    }
    let lines = writer.into_inner().map_err(|error| error.to_string())?;
    let mut whole = text.to_owned();
    if !whole.is_empty() && !whole.ends_with('\n') {
        whole.push_str(if windows { "\r\n" } else { "\n" });
    }
    whole.push_str(&String::from_utf8_lossy(&lines));
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_lines_look_like_the_list() {
        let new = ListedException {
            id: "a".to_owned(),
            reason: "x; y, z".to_owned(),
            ..ListedException::default()
        };
        let added = |text: &str| add_exceptions(text, std::slice::from_ref(&new));
        assert_eq!(added("id,reason"), Ok("id,reason\na,\"x; y, z\"\n".to_owned()));
        assert_eq!(
            added("# note\r\nreason;note;id\r\nr;;b\r\n"),
            Ok("# note\r\nreason;note;id\r\nr;;b\r\n\"x; y, z\";;a\r\n".to_owned())
        );
        let ticket = ListedException { ticket: "CHG-1".to_owned(), ..new.clone() };
        assert!(add_exceptions("id,reason\n", std::slice::from_ref(&ticket)).is_err());
        assert_eq!(
            add_exceptions("sep=\t\nID\tTicket\n", std::slice::from_ref(&ticket)),
            Ok("sep=\t\nID\tTicket\na\tCHG-1\n".to_owned())
        );
        assert_eq!(
            add_exceptions("id\tticket\n", &[ticket]),
            Ok("id\tticket\na\tCHG-1\n".to_owned())
        );
    }
}
