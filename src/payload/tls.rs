//! Reads the server name (RFC 6066) in a TLS ClientHello (RFC 8446).

use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, TlsRecordType,
    parse_tls_client_hello_extension, parse_tls_message_handshake, parse_tls_raw_record,
};

use super::{ServerNameRequest, host_name};

/// The extensions of an encrypted ClientHello (RFC 9849) and of its predecessor, the encrypted
/// server name. Browsers also send the former as a decoy (GREASE), which an observer cannot
/// distinguish from a real one.
const ENCRYPTED: [u16; 2] = [0xfe0d, 0xffce];

/// Returns the server name in a ClientHello at the start of `payload`; `None` if the message is
/// incomplete or not a ClientHello.
pub(super) fn server_name(payload: &[u8]) -> Option<ServerNameRequest> {
    // A message may span several records (RFC 8446, 5.1).
    let mut message = Vec::new();
    let mut unread = payload;
    while let Ok((after, record)) = parse_tls_raw_record(unread) {
        if record.hdr.record_type != TlsRecordType::Handshake {
            break;
        }
        message.extend_from_slice(record.data);
        unread = after;
    }
    let (_, parsed) = parse_tls_message_handshake(&message).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = parsed else {
        return None;
    };
    let mut request = ServerNameRequest { name: String::new(), hidden: false };
    let mut extensions = hello.ext.unwrap_or_default();
    while let Ok((after, extension)) = parse_tls_client_hello_extension(extensions) {
        match extension {
            TlsExtension::SNI(names) => {
                let host = names.iter().find(|(kind, _)| *kind == SNIType::HostName);
                request.name = host.and_then(|(_, name)| host_name(name)).unwrap_or_default();
            }
            TlsExtension::Unknown(kind, _) => request.hidden |= ENCRYPTED.contains(&kind.0),
            TlsExtension::EncryptedServerName { .. } => request.hidden = true,
            _ => {}
        }
        if after.len() == extensions.len() {
            break;
        }
        extensions = after;
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: &[u8], width: usize) -> Vec<u8> {
        let length = (bytes.len() as u32).to_be_bytes();
        [&length[4 - width..], bytes].concat()
    }

    /// Returns a ClientHello with these extensions, in records of at most `most` bytes.
    fn records(extensions: &[(u16, Vec<u8>)], most: usize) -> Vec<u8> {
        let list: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), sized(data, 2)].concat())
            .collect();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(sized(&[], 1));
        body.extend(sized(&[0x13, 0x01], 2));
        body.extend(sized(&[0], 1));
        body.extend(sized(&list, 2));
        let message = [vec![1], sized(&body, 3)].concat();
        let record = |part: &[u8]| [vec![0x16, 3, 1], sized(part, 2)].concat();
        message.chunks(most).flat_map(record).collect()
    }

    fn sni_extension(name: &str) -> (u16, Vec<u8>) {
        (0, sized(&[vec![0], sized(name.as_bytes(), 2)].concat(), 2))
    }

    #[test]
    fn the_server_name_is_read_from_one_record_or_several() {
        for most in [16000, 40] {
            let bytes = records(&[(10, vec![0, 2, 0, 29]), sni_extension("WWW.Example.com")], most);
            let expected = ServerNameRequest { name: "www.example.com".into(), hidden: false };
            assert_eq!(server_name(&bytes), Some(expected));
            for end in 0..bytes.len() {
                assert_eq!(server_name(&bytes[..end]), None, "{end}");
            }
        }
    }

    #[test]
    fn an_encrypted_client_hello_hides_its_name() {
        let bytes = records(&[sni_extension("public.example"), (0xfe0d, vec![0; 40])], 16000);
        assert_eq!(
            server_name(&bytes),
            Some(ServerNameRequest { name: "public.example".into(), hidden: true })
        );
        let without = records(&[(43, vec![2, 3, 4])], 16000);
        assert_eq!(
            server_name(&without),
            Some(ServerNameRequest { name: String::new(), hidden: false })
        );
    }
}
