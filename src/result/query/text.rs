//! Texts that several kinds of rows and groups share.

/// Returns a transport and a port as one word, such as `tcp/443`.
pub(super) fn service_of(transport: &str, port: &str) -> String {
    match (transport, port) {
        (one, "") | ("", one) => one.to_owned(),
        ("*", "*") => "*".to_owned(),
        (transport, port) => format!("{transport}/{port}"),
    }
}

/// Describes the roles of the client and of the server, which are joined by `;` on each side.
pub(super) fn role_pair(client: &str, server: &str) -> String {
    let words = |roles: &str| {
        if roles.is_empty() { "no role".to_owned() } else { roles.replace(';', "+") }
    };
    format!("{} > {}", words(client), words(server))
}
