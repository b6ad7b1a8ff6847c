//! Findings of an audit as the start of a list of exceptions.

use crate::model::cell;

/// A line for each finding that an exception could settle, with what only people know left to be filled in;
/// else what is wrong with the file.
pub fn exceptions_from(file: &str, findings: &str) -> Result<String, String> {
    let mut reader = csv::Reader::from_reader(findings.trim_start_matches('\u{feff}').as_bytes());
    let header = reader.headers().map_err(|error| format!("{file}: {error}"))?.clone();
    let column = |name: &str| {
        let position = header.iter().position(|column| column == name);
        position.ok_or_else(|| {
            format!("{file}: has no column \"{name}\"; give the findings.csv of an audit")
        })
    };
    let wanted = [
        "id",
        "verdict",
        "client",
        "client_name",
        "server",
        "server_name",
        "transport",
        "port",
        "message",
    ];
    let mut places = Vec::new();
    for name in wanted {
        places.push(column(name)?);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in reader.records() {
        let record = record.map_err(|error| format!("{file}: {error}"))?;
        let get = |number: usize| record[places[number]].trim_start_matches('\'').to_owned();
        // Silence and failures are nobody's traffic to be excepted.
        if !matches!(get(1).as_str(), "unexpected-port" | "undocumented") {
            continue;
        }
        let end = |name: String, address: String| match (name.is_empty(), address.as_str()) {
            (false, _) => name,
            (true, "*") => "*".to_owned(),
            (true, _) => address,
        };
        let (from, to) = (end(get(3), get(2)), end(get(5), get(4)));
        let (transport, port) = (get(6), if get(7).is_empty() { "*".to_owned() } else { get(7) });
        let line = [get(0), from, to, transport, port, "to-server".into(), String::new(), get(8)];
        let empty = [String::new(), String::new(), String::new()];
        let cells = line.iter().chain(&empty).map(|text| cell(text).into_owned());
        writer.write_record(cells).map_err(|error| error.to_string())?;
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
