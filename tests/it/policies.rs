//! Tests the choices of a site (matrix version, overlays, moved ports, custom rules), and the rows
//! that need more than two roles and a port (broadcasts, announced ports, exposure).

use std::fs;

use crate::support::wire::{ACK, Wire, client_hello};
use crate::support::{Site, columns, hosts, rasaudit, stderr, stdout};

const HOSTS: &[(&str, &str, &str)] = &[
    ("gw1", "10.1.0.1", "gateway-normal"),
    ("gw2", "10.1.0.2", "gateway-forwarding"),
    ("halb1", "10.1.0.5", "halb"),
    ("halb2", "10.1.0.6", "halb"),
    ("broker1", "10.1.0.10", "broker"),
    ("dc1", "10.1.0.20", "ad-dc"),
    ("rdsh1", "10.1.0.30", "rdsh-agent"),
    ("pa1", "10.1.0.40", "provider-agent"),
    ("guest1", "10.1.0.45", "guest-agent"),
    ("hv1", "10.1.0.50", "hyper-v"),
    ("con1", "10.1.0.60", "console"),
    ("web1", "10.1.0.70", "web-admin"),
];
const GW: &str = "10.1.0.1";
const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
const PA: &str = "10.1.0.40";
const HV: &str = "10.1.0.50";
const PC: &str = "10.1.9.7";
const OUTSIDE: &str = "198.51.100.7";

fn farm(matrix: &str, farm: &str, more: &str) -> String {
    let mut text = format!("[farm]\nmatrix = \"{matrix}\"\n{farm}\n");
    text += &hosts(HOSTS);
    let clients =
        "[[network]]\nname = \"office\"\ncidr = \"10.1.9.0/24\"\nroles = [\"parallels-client\"]\n";
    text + clients + more
}

/// Audits a generated capture and returns the report in this format.
fn audit(inventory: &str, wire: &Wire, format: &str) -> String {
    Site::new(inventory, wire).report(format)
}

/// Returns the code, certainty, doubt and rule of the conversation with this server and port.
fn judged(inventory: &str, wire: &Wire, server: &str, port: u16) -> [String; 4] {
    let report = audit(inventory, wire, "conversations");
    let rows = columns(&report, &["server", "port", "code", "certain", "doubt", "rule"]);
    let row = rows.into_iter().find(|row| row[0] == server && row[1] == port.to_string());
    let row = row.unwrap_or_else(|| panic!("no conversation with {server} {port}:\n{report}"));
    row[2..].to_vec().try_into().expect("four cells")
}

fn connection(from: &str, to: &str, port: u16) -> Wire {
    let mut wire = Wire::default();
    wire.connect(0, (from, 50_000), (to, port));
    wire
}

#[test]
fn an_older_farm_is_judged_by_its_own_matrix_and_told_in_its_own_names() {
    let inventory = farm("ras-legacy", "", "");
    let code =
        |from, to, port| judged(&inventory, &connection(from, to, port), to, port)[0].clone();
    assert_eq!(code(OUTSIDE, GW, 80), "matrix");
    assert_eq!(code(PC, GW, 80), "matrix");
    assert_eq!(code(RDSH, BROKER, 20_003), "matrix");
    // Internal ports are reached from the farm, from an inside client, and from outside.
    assert_eq!(code(BROKER, GW, 49_179), "matrix");
    assert_eq!(code(PC, BROKER, 20_002), "wrong-source");
    assert_eq!(code(OUTSIDE, GW, 49_179), "exposed-internal");
    assert_eq!(code(OUTSIDE, RDSH, 3389), "exposed-internal");
    // Only RAS 19 documents this port.
    assert_eq!(code(PA, "10.1.0.45", 30_010), "port-not-in-matrix");
    let told = audit(&inventory, &connection(PC, BROKER, 20_002), "text");
    assert!(told.contains("Publishing Agent") && told.contains("(Client)"), "{told}");
    assert!(
        told.contains("documents this port of the server only for clients with one of the roles Console, Secure Client Gateway"),
        "{told}"
    );
    assert!(told.contains("Parallels RAS before 19"), "{told}");
}

/// A port that the document calls internal counts as exposed if any outside host reaches it, even
/// if the inventory accepts clients at any address.
#[test]
fn an_internal_port_is_exposed_whoever_comes_from_outside() {
    let listed = farm("ras-legacy", "clients = \"any\"", "");
    let judged = judged(&listed, &connection(OUTSIDE, GW, 49_179), GW, 49_179);
    assert_eq!(judged[0], "exposed-internal");
    let findings = audit(&listed, &connection(OUTSIDE, GW, 49_179), "csv");
    assert_eq!(columns(&findings, &["code", "severity"])[0], ["exposed-internal", "critical"]);
}

/// A neighbour of a listed host does not come from outside, even if the farm has public addresses.
#[test]
fn a_neighbour_of_a_host_is_not_outside() {
    let code = |addresses: [&str; 2], roles: [&str; 2], more: &str, client: &str| {
        let [broker, other] = addresses;
        let list = [("broker1", broker, roles[0]), ("other1", other, roles[1])];
        let inventory = format!("[farm]\nmatrix = \"ras-19\"\n{}{more}", hosts(&list));
        judged(&inventory, &connection(client, broker, 20_003), broker, 20_003)[0].clone()
    };
    let farm = ["broker", "rdsh-agent"];
    let four = ["203.0.113.10", "203.0.113.30"];
    assert_eq!(code(four, farm, "", "203.0.113.200"), "unknown-host");
    assert_eq!(code(four, farm, "", OUTSIDE), "exposed-internal");
    // A listed network of the farm is inside, too. A network of clients is not.
    let network = |roles: &str| {
        format!("[[network]]\nname = \"n\"\ncidr = \"198.51.100.0/24\"\nroles = [{roles}]\n")
    };
    assert_eq!(code(four, farm, &network("\"sql-server\""), OUTSIDE), "wrong-source");
    assert_eq!(code(four, farm, &network("\"parallels-client\""), OUTSIDE), "exposed-internal");
    assert_eq!(code(four, farm, &network(""), OUTSIDE), "exposed-internal");
    // Other customers of a provider may be neighbours of the public address of a gateway or of a
    // server outside, and anybody may be a neighbour of a user.
    for role in ["gateway-normal", "halb", "smtp-server", "azure", "parallels-client"] {
        let hosted = code([BROKER, "198.51.100.9"], ["broker", role], "", OUTSIDE);
        assert_eq!(hosted, "exposed-internal", "{role}");
    }
}

/// If the inventory accepts clients at any address, these enter the farm through its gateways and
/// HALB. Other ports of the same servers stay closed to them.
#[test]
fn anybody_enters_only_through_an_entrance() {
    const BOTH: &str = "10.1.0.80";
    let with = |clients: &str| {
        let roles = "roles = [\"ad-dc\", \"gateway-normal\", \"rdsh-agent\"]";
        let both = format!("[[host]]\nname = \"srv1\"\naddresses = [\"{BOTH}\"]\n{roles}\n");
        let features = "[farm.features]\ndirect-mode = true\nrdp-load-balancing = false\n";
        let head = format!("clients = \"{clients}\"\noverlays = [\"windows-domain\"]\n{features}");
        farm("ras-19", &head, &both)
    };
    let code = |clients: &str, from: &str, to: &str, port: u16| {
        judged(&with(clients), &connection(from, to, port), to, port)[0].clone()
    };
    assert_eq!(code("any", OUTSIDE, BOTH, 443), "matrix");
    for port in [135, 389, 445, 88, 9389, 50_777] {
        assert_eq!(code("any", OUTSIDE, BOTH, port), "exposed-internal", "{port}");
        // A listed client is a member of the domain wherever the directory is.
        assert_eq!(code("any", PC, BOTH, port), "overlay", "{port}");
    }
    assert_eq!(code("any", PC, BOTH, 3389), "matrix");
    assert_eq!(code("any", OUTSIDE, BOTH, 3389), "feature-off");
    // The administration of an entrance is exposed, whether or not anybody may be a client.
    for clients in ["any", "listed"] {
        assert_eq!(code(clients, OUTSIDE, "10.1.0.5", 31_006), "exposed-internal", "{clients}");
    }
    assert_eq!(code("any", OUTSIDE, "10.1.0.5", 4444), "port-not-in-matrix");
    let mut wire = Wire::default();
    wire.udp(0, (OUTSIDE, 50_000), ("255.255.255.255", 20_000));
    assert_eq!(judged(&with("any"), &wire, "255.255.255.255", 20_000)[0], "matrix");
}

/// A row whose features are off opens no port to external clients.
#[test]
fn a_feature_that_is_off_opens_no_port() {
    let code = |direct: &str, port: u16| {
        let inventory = farm("ras-19", direct, "");
        judged(&inventory, &connection(OUTSIDE, RDSH, port), RDSH, port)[0].clone()
    };
    let off = "[farm.features]\ndirect-mode = false\n";
    assert_eq!(code(off, 3389), "exposed-internal");
    assert_eq!(code(off, 30_004), "exposed-internal");
    assert_eq!(code("[farm.features]\ndirect-mode = true\n", 3389), "unknown-host");
    assert_eq!(code("", 3389), "unknown-host");
}

#[test]
fn broadcasts_match_broadcast_addresses_and_groups_their_group() {
    let to = |from: &str, to: &str, port: u16| {
        let mut wire = Wire::default();
        wire.udp(0, (from, 50_000), (to, port));
        judged(&farm("ras-19", "", ""), &wire, to, port)[0].clone()
    };
    for everybody in ["255.255.255.255", "10.1.9.255"] {
        assert_eq!(to(PC, everybody, 20_000), "matrix", "{everybody}");
    }
    assert_eq!(to("10.1.0.45", "10.1.0.255", 30_006), "matrix");
    assert_eq!(to(PC, "224.0.0.251", 20_000), "no-relation");
    assert_eq!(to(RDSH, "255.255.255.255", 20_000), "no-relation");
    assert_eq!(to(PC, "255.255.255.255", 20_001), "no-relation");
    let vrrp = |to: &str| {
        let mut wire = Wire::default();
        wire.ip(0, "10.1.0.5", to, 112, &[0x21, 1, 100, 1, 0, 1, 0, 0]);
        let report = audit(&farm("ras-19", "", ""), &wire, "conversations");
        columns(&report, &["code"])[0][0].clone()
    };
    assert_eq!(vrrp("224.0.0.18"), "matrix");
    assert_eq!(vrrp("224.0.0.19"), "no-relation");
    assert_eq!(vrrp("255.255.255.255"), "no-relation");
}

/// The answer to a broadcast lookup is documented by the row of the lookup.
#[test]
fn the_answer_to_a_broadcast_is_documented_with_it() {
    let mut wire = Wire::default();
    wire.udp(0, (PC, 50_000), ("10.1.9.255", 20_000));
    wire.udp(5, (GW, 20_000), (PC, 50_000));
    let [code, certain, _, rule] = judged(&farm("ras-19", "", ""), &wire, GW, 20_000);
    assert_eq!([code, certain], ["matrix", "yes"]);
    assert!(rule.starts_with("ras19.parallels-client.gateway-normal.udp.20000"), "{rule}");
}

/// Returns the response in which an endpoint mapper announces a TCP port.
fn announcement(port: u16) -> Vec<u8> {
    let uuid = [0; 16];
    let floor = |left: &[u8], right: &[u8]| {
        let sized = |b: &[u8]| [&(b.len() as u16).to_le_bytes()[..], b].concat();
        [sized(left), sized(right)].concat()
    };
    let interface = [&[0x0d][..], &uuid, &[1, 0]].concat();
    let floors = [
        floor(&interface, &[0, 0]),
        floor(&interface, &[0, 0]),
        floor(&[0x0b], &[0, 0]),
        floor(&[7], &port.to_be_bytes()),
        floor(&[9], &[10, 1, 0, 50]),
    ];
    let tower = [&[5, 0][..], &floors.concat()].concat();
    let mut stub = vec![0; 40];
    stub.extend((tower.len() as u32).to_le_bytes());
    stub.extend(&tower);
    let mut pdu = vec![5, 0, 2, 3, 0x10, 0, 0, 0];
    pdu.extend((24 + stub.len() as u16).to_le_bytes());
    pdu.resize(24, 0);
    pdu.extend(stub);
    pdu
}

/// Appends a connection over which the endpoint mapper of `to` announces a port to `from`.
fn announce(wire: &mut Wire, from: &str, to: &str, port: u16) {
    wire.connect(0, (from, 50_100), (to, 135));
    wire.data(50, (to, 135), (from, 50_100), (3000, 3000), &announcement(port));
}

#[test]
fn a_dynamic_port_is_certain_where_it_was_announced() {
    const RANGE: &str = "ras19.provider-agent.hyper-v.tcp.49152-65535";
    let inventory = farm("ras-19", "[farm.features]\nprovider-hyper-v = true\n", "");
    let opened = |announced: Option<(&str, &str, u16)>| {
        let mut wire = Wire::default();
        if let Some((from, to, port)) = announced {
            announce(&mut wire, from, to, port);
        }
        wire.connect(1000, (PA, 50_000), (HV, 49_700));
        judged(&inventory, &wire, HV, 49_700)
    };
    let words = |certain: &str, doubt: &str| ["matrix", certain, doubt, RANGE].map(str::to_owned);
    assert_eq!(opened(Some((PA, HV, 49_700))), words("yes", ""));
    // Without an announcement, or with an announcement of another port or to another client, the
    // port range of the row applies. The connection is then not a violation, but the ruling is
    // uncertain.
    assert_eq!(opened(None), words("no", "row"));
    assert_eq!(opened(Some((PA, HV, 49_701))), words("no", "row"));
    assert_eq!(opened(Some((BROKER, HV, 49_700))), words("no", "row"));
    // Without a row, an announcement by an endpoint mapper does not document the traffic.
    let mut wire = Wire::default();
    announce(&mut wire, RDSH, HV, 49_700);
    wire.connect(1000, (RDSH, 50_000), (HV, 49_700));
    assert_eq!(judged(&inventory, &wire, HV, 49_700)[0], "wrong-source");
}

/// Port 49179 has a row of its own (a push), lies within the dynamic range, and may be chosen as a
/// source port by a Windows client.
#[test]
fn every_reading_of_49179_comes_out_right() {
    let features = "[farm.features]\nprovider-hyper-v = true\n";
    let inventory = farm("ras-19", features, "");
    let push = |from, to| judged(&inventory, &connection(from, to, 49_179), to, 49_179);
    assert_eq!(push(BROKER, RDSH), ["matrix", "yes", "", "ras19.broker.rdsh-agent.tcp.49179"]);
    assert_eq!(push(PA, HV)[..3], ["matrix", "no", "row"]);
    assert_eq!(push(PA, RDSH)[0], "wrong-source");
    // A handshake proves that the port is a source port.
    let mut wire = Wire::default();
    wire.connect(0, (RDSH, 49_179), (BROKER, 20_003));
    assert_eq!(judged(&inventory, &wire, BROKER, 20_003)[..2], ["matrix", "yes"]);
    // Without a handshake, either end may be the client. The matrix documents both orientations, so
    // the verdict is not in doubt. The end with the lower port is shown as the server.
    let midstream = |from: (&str, u16), to: (&str, u16)| {
        let mut wire = Wire::default();
        for second in 0..3 {
            wire.tcp(second * 1000, from, to, ACK, 100);
            wire.tcp(second * 1000 + 5, to, from, ACK, 100);
        }
        wire
    };
    let wire = midstream((RDSH, 49_179), (BROKER, 20_003));
    assert_eq!(judged(&inventory, &wire, BROKER, 20_003)[..2], ["matrix", "yes"]);
    // A client port inside the range never turns a violation into a documented flow.
    let wire = midstream((HV, 49_179), (PA, 4444));
    let [code, certain, doubt, _] = judged(&inventory, &wire, PA, 4444);
    assert_eq!([&*code, &*certain, &*doubt], ["no-relation", "no", "direction"]);
    // With the overlay, the dynamic range of the domain controller applies in addition to the push.
    let inventory = farm("ras-19", "overlays = [\"windows-domain\"]", "");
    let wire = connection(RDSH, DC, 49_179);
    let expected = ["overlay", "no", "row", "windows-domain.rpc-dynamic.tcp"];
    assert_eq!(judged(&inventory, &wire, DC, 49_179), expected);
    let mut wire = wire;
    announce(&mut wire, RDSH, DC, 49_179);
    assert_eq!(judged(&inventory, &wire, DC, 49_179)[..2], ["overlay", "yes"]);
    assert_eq!(
        judged(&inventory, &connection(BROKER, RDSH, 49_179), RDSH, 49_179)[3],
        "ras19.broker.rdsh-agent.tcp.49179"
    );
}

#[test]
fn overlays_are_off_until_they_are_named() {
    let kerberos = || connection(RDSH, DC, 88);
    let plain = farm("ras-19", "", "");
    assert_eq!(judged(&plain, &kerberos(), DC, 88)[0], "wrong-source");
    let domain = farm("ras-19", "overlays = [\"windows-domain\"]", "");
    assert_eq!(
        judged(&domain, &kerberos(), DC, 88),
        ["overlay", "yes", "", "windows-domain.kerberos.tcp"]
    );
    // Traffic that the matrix itself documents is still attributed to the matrix.
    assert_eq!(judged(&domain, &connection(BROKER, DC, 88), DC, 88)[0], "matrix");
    // The overlay applies only to domain members and only to its own ports.
    assert_eq!(judged(&domain, &connection(RDSH, DC, 4444), DC, 4444)[0], "port-not-in-matrix");
    assert_eq!(judged(&domain, &connection(OUTSIDE, DC, 88), DC, 88)[0], "unknown-host");
    // Background traffic is recognized unless the site turns this off.
    let mut mdns = Wire::default();
    mdns.udp(0, (RDSH, 5353), ("224.0.0.251", 5353));
    assert_eq!(judged(&plain, &mdns, "224.0.0.251", 5353)[0], "background");
    let off = farm("ras-19", "background = false", "");
    assert_eq!(judged(&off, &mdns, "224.0.0.251", 5353)[0], "no-relation");
}

#[test]
fn a_site_may_add_an_overlay_and_a_matrix_of_its_own() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let write = |name: &str, text: &str| {
        fs::write(scratch.path().join(name), text).expect("writable");
        scratch.path().join(name).display().to_string()
    };
    let header = "id,source_role,destination_role,transport,port_low,port_high,purpose,provenance";
    write(
        "backup.csv",
        &format!("{header}\nsite.backup,rdsh-agent,ad-dc,tcp,9000,9000,Backup,change 17\n"),
    );
    write(
        "noise.csv",
        "id,transport,port,towards,purpose,provenance\nsite.noise,udp,9999,group,A beacon,change 18\n",
    );
    let mut wire = connection(RDSH, DC, 9000);
    wire.udp(10, (RDSH, 50_000), ("224.0.0.99", 9999));
    let capture = scratch.path().join("a.pcap");
    fs::write(&capture, wire.file()).expect("writable");
    let run = |inventory: &str, more: &[&str]| {
        let inventory = write("a.toml", inventory);
        let capture = capture.display().to_string();
        let base = ["audit", &capture, "-i", &inventory, "--format", "conversations"];
        rasaudit(base.iter().chain(more))
    };
    let codes = |output: &std::process::Output| -> Vec<String> {
        columns(&stdout(output), &["code"]).into_iter().map(|mut row| row.remove(0)).collect()
    };
    let named = run(&farm("ras-19", "overlays = [\"backup.csv\", \"./noise.csv\"]", ""), &[]);
    assert_eq!(codes(&named), ["overlay", "background"], "{}", stderr(&named));
    let path = scratch.path().join("backup.csv").display().to_string();
    let given = run(&farm("ras-19", "", ""), &["--overlay", &path]);
    assert_eq!(codes(&given), ["overlay", "no-relation"], "{}", stderr(&given));
    // A missing overlay and a broken one are reported with file and line.
    write(
        "broken.csv",
        &format!("{header}\nsite.a,rdsh-agnt,ad-dc,tcp,9000,9000,Backup,change 17\n"),
    );
    let wrong = run(&farm("ras-19", "overlays = [\"windows-domian\"]", ""), &[]);
    assert!(
        stderr(&wrong).contains(
            "a.toml:3: there is no overlay named \"windows-domian\" (known: network-background, windows-domain, or a CSV file); did you mean \"windows-domain\"?"
        ),
        "{}",
        stderr(&wrong)
    );
    let wrong = run(&farm("ras-19", "overlays = [\"broken.csv\"]", ""), &[]);
    assert!(
        stderr(&wrong).contains(
            "broken.csv:2: source_role: unknown role \"rdsh-agnt\"; did you mean \"rdsh-agent\"?"
        ),
        "{}",
        stderr(&wrong)
    );
    assert_eq!(wrong.status.code(), Some(2));
    // A custom matrix may be in a folder next to the inventory.
    fs::create_dir(scratch.path().join("own")).expect("writable");
    write(
        "own/roles.csv",
        "slug,name,kind\nrdsh-agent,Host,component\nad-dc,Controller,infrastructure\n",
    );
    write(
        "own/matrix.csv",
        &format!("{header}\nown.a,rdsh-agent,ad-dc,tcp,9000,9000,Backup,change 17\n"),
    );
    let own = "[farm]\nmatrix = \"./own\"\n[[host]]\nname = \"a\"\naddresses = [\"10.1.0.30\"]\nroles = [\"Host\"]\n\
               [[host]]\nname = \"b\"\naddresses = [\"10.1.0.20\"]\nroles = [\"ad-dc\"]\n";
    let judged = run(own, &[]);
    assert_eq!(codes(&judged)[0], "matrix", "{}", stderr(&judged));
}

#[test]
fn any_port_may_be_renumbered() {
    let moved = |role: &str, from: u16, to: u16, more: &str| {
        let text = format!(
            "[[moved-port]]\nrole = \"{role}\"\ntransport = \"tcp\"\nfrom = {from}\nto = {to}\n{more}\n"
        );
        farm("ras-19", "", &text)
    };
    let code = |inventory: &str, from, to, port| {
        judged(inventory, &connection(from, to, port), to, port)[0].clone()
    };
    // Moves the port of gateways in normal mode, RDP on all kinds of session hosts, the port of the
    // portal, and a port of a single broker.
    let gateway = moved("gateway-normal", 443, 8443, "");
    assert_eq!(code(&gateway, PC, GW, 8443), "renumbered");
    assert_eq!(code(&gateway, PC, GW, 443), "port-not-in-matrix");
    assert_eq!(code(&gateway, PC, "10.1.0.2", 443), "matrix");
    let rdp = moved("session-host", 3389, 33_890, "");
    for host in [RDSH, "10.1.0.45"] {
        assert_eq!(code(&rdp, GW, host, 33_890), "renumbered");
        assert_eq!(code(&rdp, GW, host, 3389), "port-not-in-matrix");
    }
    let portal = moved("web-admin", 20_443, 8444, "");
    let browser = portal.replace("parallels-client\"]", "parallels-client\", \"web-browser\"]");
    assert_eq!(code(&browser, PC, "10.1.0.70", 8444), "renumbered");
    let broker = moved("broker", 20_003, 21_003, "host = \"broker1\"");
    assert_eq!(code(&broker, RDSH, BROKER, 21_003), "renumbered");
}

/// A finding about a feature that is off names the feature, and so does `rasaudit explain`.
#[test]
fn features_are_named_where_they_decide() {
    let off = farm(
        "ras-19",
        "[farm.features]\nmfa = false\n",
        "[[host]]\nname = \"mfa1\"\naddresses = [\"10.1.0.99\"]\nroles = [\"mfa-server\"]\n",
    );
    let report = audit(&off, &connection(BROKER, "10.1.0.99", 1812), "csv");
    let finding = columns(&report, &["code", "message", "action"]);
    assert_eq!(finding[0][0], "feature-off");
    assert!(finding[0][1].contains("only with the feature mfa"), "{finding:?}");
    assert!(finding[0][2].contains("the feature mfa, set it to true"), "{finding:?}");
    let explain = |inventory: &str, more: &[&str]| {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("a.toml");
        fs::write(&path, inventory).expect("writable");
        let base = ["explain", "-i", &path.display().to_string()].map(str::to_owned);
        rasaudit(base.into_iter().chain(more.iter().map(|m| (*m).to_owned())))
    };
    let told = explain(&off, &["--from", "broker1", "--to", "mfa1", "--port", "1812/tcp"]);
    assert_eq!(told.status.code(), Some(1));
    let text = stdout(&told);
    assert!(
        text.contains("unexpected-port/feature-off")
            && text.contains("feature mfa (users are asked for a second factor), which is off"),
        "{text}"
    );
}

#[test]
fn a_question_about_a_port_is_explained() {
    let explain = |more: &[&str]| {
        let run = rasaudit([&["explain"], more].concat());
        (run.status.code(), stdout(&run), stderr(&run))
    };
    let (code, out, _) =
        explain(&["--from", "console", "--to", "Connection Broker", "--port", "20002/tcp"]);
    assert!(
        code == Some(0)
            && out.contains("is documented")
            && out.contains("ras19.console.broker.tcp.20002"),
        "{out}"
    );
    let (code, out, _) =
        explain(&["--from", "rdsh-agent", "--to", "sql-server", "--port", "1433/tcp"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("undocumented/wrong-source") && out.contains("ssrs > sql-server"),
        "{out}"
    );
    let (code, out, _) = explain(&["--from", "halb", "--to", "224.0.0.18", "--port", "112/ip"]);
    assert!(code == Some(0) && out.contains("VRRP"), "{out}");
    let (code, out, _) = explain(&[
        "--from",
        "client",
        "--to",
        "broadcast",
        "--port",
        "20000/udp",
        "--matrix",
        "ras-legacy",
    ]);
    assert!(code == Some(0) && out.contains("Inferred from the document"), "{out}");
    // A group is checked member by member. A role has no address, so it is not treated as an
    // address outside the inventory.
    let (code, out, _) = explain(&["--from", "gateway", "--to", "broker", "--port", "20002/tcp"]);
    assert!(
        code == Some(1)
            && out.contains("yes  gateway-normal")
            && out.contains("no   gateway-forwarding"),
        "{out}"
    );
    let (_, out, _) = explain(&[
        "--from",
        "ad-dc",
        "--to",
        "broker",
        "--port",
        "20001/tcp",
        "--matrix",
        "ras-legacy",
    ]);
    assert!(out.contains("wrong-source"), "{out}");
    // Without an inventory, too, the usual internal prefixes are not external.
    for (client, code) in [("10.1.0.5", "unknown-host"), ("203.0.113.5", "exposed-internal")] {
        let (_, out, _) = explain(&["--from", client, "--to", "broker", "--port", "20003/tcp"]);
        assert!(out.contains(&format!("(undocumented/{code})")), "{out}");
    }
    let (code, _, err) = explain(&["--from", "consol", "--to", "brokr", "--port", "1/tcp"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("did you mean \"console\"?") && err.contains("did you mean \"broker\"?"),
        "{err}"
    );
    let (code, _, err) = explain(&["--from", "console", "--to", "broker", "--port", "20002"]);
    assert!(code == Some(2) && err.contains("20003/tcp"), "{err}");
}

/// Findings also name the feature that is off if the row's destination is an address outside the
/// inventory or a broadcast.
#[test]
fn a_feature_that_is_off_is_named_for_endpoints_and_broadcasts_too() {
    let host = |name: &str, address: &str, role: &str| {
        format!("[[host]]\nname = \"{name}\"\naddresses = [\"{address}\"]\nroles = [\"{role}\"]\n")
    };
    let more =
        host("avd1", "10.1.0.80", "avd-session-host") + &host("wyse1", "10.1.0.81", "wyse-broker");
    let off = farm("ras-19", "[farm.features]\navd = false\nwyse = false\n", &more);
    let wire = connection("10.1.0.80", "168.63.129.16", 80);
    assert_eq!(judged(&off, &wire, "168.63.129.16", 80)[0], "feature-off");
    let mut wire = Wire::default();
    wire.udp(0, ("10.1.0.60", 50_000), ("255.255.255.255", 1234));
    let told = audit(&off, &wire, "text");
    assert!(told.contains("no-relation") && told.contains("only with the feature wyse"), "{told}");
}

/// A moved port also applies to lookups and to servers that are known by name.
#[test]
fn moved_ports_follow_broadcasts_and_names() {
    let moved = |role: &str, transport: &str, from: u16, to: u16| {
        let text = format!(
            "[[moved-port]]\nrole = \"{role}\"\ntransport = \"{transport}\"\nfrom = {from}\nto = {to}\n"
        );
        farm("ras-19", "", &text)
    };
    let lookup = |port| {
        let mut wire = Wire::default();
        wire.udp(0, (PC, 50_000), ("10.1.9.255", port));
        wire.udp(5, (GW, port), (PC, 50_000));
        wire
    };
    let gateways = moved("gateway", "udp", 20_000, 21_000);
    for server in ["10.1.9.255", GW] {
        assert_eq!(judged(&gateways, &lookup(21_000), server, 21_000)[0], "renumbered", "{server}");
        assert_ne!(judged(&gateways, &lookup(20_000), server, 20_000)[0], "matrix", "{server}");
    }
    let licences = moved("parallels-licensing", "tcp", 443, 8443);
    let mut wire = Wire::default();
    wire.lookup(0, BROKER, DC, &["ras.parallels.com"], OUTSIDE);
    wire.connect(10, (BROKER, 50_000), (OUTSIDE, 8443));
    assert_eq!(judged(&licences, &wire, OUTSIDE, 8443)[0], "renumbered");
}

/// Traffic of a host to its own address is judged by the rows about traffic inside a host. Ports
/// that the older document lists under the host itself are exposed if an outside host reaches them.
#[test]
fn ports_of_the_host_itself() {
    let rdsh = connection(RDSH, RDSH, 30_005);
    assert_eq!(judged(&farm("ras-19", "", ""), &rdsh, RDSH, 30_005)[0], "matrix");
    let legacy = farm("ras-legacy", "", "");
    let outside = connection(OUTSIDE, RDSH, 30_005);
    assert_eq!(judged(&legacy, &outside, RDSH, 30_005)[0], "exposed-internal");
    let lookup = {
        let mut wire = Wire::default();
        wire.udp(0, (OUTSIDE, 50_000), (GW, 20_000));
        wire
    };
    assert_eq!(judged(&legacy, &lookup, GW, 20_000)[0], "exposed-internal");
    // A capture on the loopback interface covers rows about traffic inside a host, even if the
    // traffic does not occur.
    let on = farm("ras-19", "", "[capture]\non = \"rdsh1\"\n");
    let status = |wire: &Wire, inventory: &str| {
        let rows = columns(&audit(inventory, wire, "matrix"), &["rule", "status", "reason"]);
        let row = rows.into_iter().find(|row| row[0] == "ras19.rdsh-agent.localhost.tcp.30005");
        row.expect("the row")[1..].to_vec()
    };
    let inside = |port| connection("127.0.0.1", "127.0.0.1", port);
    // A host may use its own services under a loopback address, too.
    let roles = on.replace("roles = [\"rdsh-agent\"]", "roles = [\"rdsh-agent\", \"broker\"]");
    assert_ne!(roles, on);
    for address in [RDSH, "127.0.0.1"] {
        let inside = connection(address, address, 20_003);
        assert_eq!(judged(&roles, &inside, address, 20_003)[..2], ["matrix", "yes"], "{address}");
    }
    assert_eq!(status(&inside(40_000), &on), ["not-expected", ""]);
    assert_eq!(status(&inside(30_005), &on), ["seen", ""]);
    assert_eq!(status(&connection(RDSH, BROKER, 20_003), &on), ["not-assessable", "loopback-only"]);
}

/// An announcement also applies if the endpoint mapper was contacted between other addresses of the
/// same two hosts.
#[test]
fn an_announcement_holds_between_hosts() {
    let inventory = farm("ras-19", "[farm.features]\nprovider-hyper-v = true\n", "")
        .replace("\"10.1.0.40\"", "\"10.1.0.40\", \"10.2.0.40\"")
        .replace("\"10.1.0.50\"", "\"10.1.0.50\", \"10.2.0.50\"");
    let mut wire = Wire::default();
    announce(&mut wire, "10.2.0.40", "10.2.0.50", 49_700);
    wire.connect(1000, (PA, 50_000), (HV, 49_700));
    assert_eq!(judged(&inventory, &wire, HV, 49_700)[..2], ["matrix", "yes"]);
}

/// The prefix lengths of outside networks are unknown, so an outside address that ends in 255 is
/// not taken for a broadcast address.
#[test]
fn an_address_outside_that_ends_in_255_is_no_broadcast() {
    let mut wire = Wire::default();
    wire.udp(0, (PC, 50_000), ("203.0.113.255", 3390));
    assert_eq!(judged(&farm("ras-19", "", ""), &wire, "203.0.113.255", 3390)[0], "unknown-host");
}

/// A `[[moved-port]]` table that moves a port to itself or for a second time is reported.
#[test]
fn a_port_is_moved_once() {
    let moved = |role: &str, from: u16, to: u16, more: &str| {
        format!(
            "[[moved-port]]\nrole = \"{role}\"\ntransport = \"tcp\"\nfrom = {from}\nto = {to}\n{more}\n"
        )
    };
    let problems = |moves: &[String]| {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("a.toml");
        fs::write(&path, farm("ras-19", "", &moves.concat())).expect("writable");
        stderr(&rasaudit(["inventory", "check", &path.display().to_string()]))
    };
    assert!(problems(&[moved("gateway", 443, 443, "")]).contains("moved to itself"));
    let twice =
        [moved("gateway", 443, 8443, ""), moved("gateway-normal", 443, 9443, "host = \"gw1\"")];
    assert!(problems(&twice).contains("is already moved above"), "{}", problems(&twice));
    let apart =
        [moved("gateway-normal", 443, 8443, ""), moved("gateway-forwarding", 443, 9443, "")];
    assert_eq!(problems(&apart), "");
}

#[test]
fn odd_questions_are_answered_or_refused_with_a_reason() {
    let explain = |from: &str, to: &str, port: &str| {
        let run = rasaudit(["explain", "--from", from, "--to", to, "--port", port]);
        (run.status.code(), stdout(&run) + &stderr(&run))
    };
    for (from, to, port, code, part) in [
        ("broker", "999.1.1.1", "443/tcp", 2, "is not an IP address"),
        ("broker", "10.1.1.0/24", "443/tcp", 2, "is not an IP address"),
        ("broker", "*.windows.net", "443/tcp", 2, "is not a host or network of the inventory"),
        ("localhost", "broker", "443/tcp", 2, "--from must be the client"),
        ("gateway-normal", "127.0.0.1", "20020/tcp", 0, "web server"),
        ("rdsh-agent", "[fd00::1]", "443/tcp", 1, "not documented"),
        ("rdsh-agent", "224.0.0.251", "5353/udp", 0, "mdns"),
        ("rdsh-agent", "broker", "8/icmp", 0, "icmp"),
        ("rdsh-agent", "broker", "70000/tcp", 2, "ports go up to 65535"),
        ("rdsh-agent", "broker", "0/tcp", 2, "at least 1"),
        ("rdsh-agent", "broker", "+443/tcp", 2, "20003/tcp"),
        ("rdsh-agent", "broker", "6/ip", 2, "443/tcp"),
    ] {
        let (got, text) = explain(from, to, port);
        assert!(got == Some(code) && text.contains(part), "{from} {to} {port}: {got:?} {text}");
    }
}

/// A network of the inventory is an end like any host.
#[test]
fn a_question_may_name_a_network() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("a.toml");
    let admins = "[[network]]\nname = \"admins\"\ncidr = \"10.1.8.0/24\"\nroles = [\"console\"]\n";
    std::fs::write(&path, farm("ras-19", "", admins)).expect("writable");
    let explain = |from: &str| {
        let inventory = path.display().to_string();
        let base = ["explain", "--from", from, "--to", BROKER, "--port", "20002/tcp"];
        let run = rasaudit(base.into_iter().chain(["-i", &inventory]));
        (run.status.code(), stdout(&run) + &stderr(&run))
    };
    for (from, code) in [("admins", 0), ("Admins", 0), ("10.1.8.77", 0), ("office", 1)] {
        let (got, text) = explain(from);
        assert_eq!(got, Some(code), "{from}: {text}");
    }
    let (code, text) = explain("admin s");
    assert!(code == Some(2) && text.contains("did you mean \"admins\"?"), "{text}");
}

/// Writes the rules of a fictitious product as data only: its roles with their traits, its rows and
/// its services.
fn vendor(folder: &std::path::Path) {
    fs::create_dir_all(folder).expect("writable");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("writable");
    write("meta.toml", "title = \"Acme Desk 4\"\nprefix = \"Acme\"\n");
    write(
        "roles.csv",
        "slug,name,kind,members,traits\n\
         viewer,Acme Viewer,client,,anybody\n\
         front,Acme Front Door,component,,entrance\n\
         brain,Acme Brain,component,,\n\
         names,Name service,infrastructure,,directory\n\
         vendor-cloud,Acme Cloud,external-service,,\n",
    );
    write(
        "matrix.csv",
        "id,source_role,destination_role,transport,port_low,port_high,scope,expectation,purpose,provenance\n\
         acme.viewer.front,viewer,front,tcp,7443,7443,internet,on-demand,Sessions,manual 1\n\
         acme.front.brain,front,brain,tcp,7100,7100,network,steady,Who may come in,manual 2\n\
         acme.front.names,front,names,udp,53,53,network,on-demand,Lookups,manual 3\n\
         acme.front.cloud,front,vendor-cloud,tcp,443,443,internet,on-demand,Licences,manual 4\n",
    );
    write("services.csv", "role,name\nvendor-cloud,*.acme.example\n");
}

#[test]
fn a_product_is_data_alone() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    vendor(&scratch.path().join("acme"));
    let inventory = "[farm]\nname = \"Desk farm\"\nmatrix = \"./acme\"\nclients = \"any\"\n\
        [[host]]\nname = \"front1\"\naddresses = [\"10.1.0.1\"]\nroles = [\"Front Door\"]\n\
        [[host]]\nname = \"brain1\"\naddresses = [\"10.1.0.2\"]\nroles = [\"brain\"]\n\
        [[host]]\nname = \"brain2\"\naddresses = [\"10.1.0.4\"]\nroles = [\"brain\"]\n\
        [[host]]\nname = \"dns1\"\naddresses = [\"10.1.0.3\"]\nroles = [\"names\"]\n";
    fs::write(scratch.path().join("inventory.toml"), inventory).expect("writable");
    let cloud = "198.51.100.80";
    let mut wire = Wire::default();
    // An outside host may connect to the front door, but not to the brain.
    wire.connect(1_000, (OUTSIDE, 50_000), ("10.1.0.1", 7443));
    wire.connect(1_100, (OUTSIDE, 50_001), ("10.1.0.2", 7100));
    wire.connect(1_200, ("10.1.0.1", 50_002), ("10.1.0.2", 7100));
    // The name service has the trait `directory`, so it is a trusted resolver. Its answer and the
    // client's ClientHello make the name certain.
    wire.lookup(1_300, "10.1.0.1", "10.1.0.3", &["licence.acme.example"], cloud);
    let hello = client_hello("licence.acme.example", false, 9);
    wire.start(1_400, ("10.1.0.1", 50_003), (cloud, 443), &hello, 1400);
    // Only one role of the product serves this port, but the name service answers on it.
    wire.connect(1_500, ("10.1.0.2", 50_004), ("10.1.0.3", 7100));
    fs::write(scratch.path().join("case.pcap"), wire.file()).expect("writable");
    let run = |format: &str| {
        let path = |name: &str| scratch.path().join(name).display().to_string();
        let capture = path("case.pcap");
        let inventory = path("inventory.toml");
        stdout(&rasaudit(["audit", &capture, "-i", &inventory, "--format", format]))
    };
    let names = ["client", "server", "port", "code", "certain"];
    let mut judged: Vec<String> =
        columns(&run("conversations"), &names).iter().map(|row| row.join(" ")).collect();
    judged.sort();
    assert_eq!(
        judged,
        [
            "10.1.0.1 10.1.0.2 7100 matrix yes",
            "10.1.0.1 10.1.0.3 53 matrix yes",
            "10.1.0.1 198.51.100.80 443 matrix yes",
            "10.1.0.2 10.1.0.3 7100 no-relation yes",
            "198.51.100.7 10.1.0.1 7443 matrix yes",
            "198.51.100.7 10.1.0.2 7100 exposed-internal yes",
        ]
    );
    let findings = columns(&run("csv"), &["code", "client_name", "message"]);
    let mismatch = findings.iter().find(|row| row[0] == "role-mismatch").expect("a finding");
    assert_eq!(
        mismatch[2],
        "dns1 (Name service) serves TCP 7100, which in the matrix only the role Acme Brain serves"
    );
    assert!(run("text").contains("compared with the Acme Desk 4 matrix"));
    // Errors in rule files are reported with the nearest valid word.
    let roles = "slug,name,kind,traits\nviewer,Viewer,clint,anybdy\nold,Old,ras-component,\n";
    fs::write(scratch.path().join("acme/roles.csv"), roles).expect("writable");
    fs::write(scratch.path().join("acme/meta.toml"), "titel = \"x\"\n").expect("writable");
    let folder = scratch.path().join("acme").display().to_string();
    let wrong = stderr(&rasaudit(["matrix", "check", &folder]));
    for told in [
        "roles.csv:2: kind: unknown value \"clint\"; did you mean \"client\"?",
        "roles.csv:2: traits: unknown value \"anybdy\"; did you mean \"anybody\"?",
        "roles.csv:3: kind: \"ras-component\" is now named \"component\"",
        "meta.toml:1: unknown field `titel`",
    ] {
        assert!(wrong.contains(told), "{told}: {wrong}");
    }
}

#[test]
fn no_role_of_a_product_stands_in_the_code() {
    let mut slugs: Vec<String> = Vec::new();
    for matrix in ["ras-19", "ras-legacy"] {
        let path = format!("{}/rules/{matrix}/roles.csv", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("a file of rules");
        slugs.extend(columns(&text, &["slug"]).into_iter().map(|row| row[0].clone()));
    }
    // Slugs of one word other than these two, such as `console`, are common words, which the code
    // may contain for other reasons.
    slugs.retain(|slug| slug.contains('-') || slug == "halb" || slug == "broker");
    assert!(slugs.len() > 40);
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // The inventory template is not Rust code and may contain slugs.
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            // Samples are compiled only for unit tests.
            if path.file_stem().is_some_and(|stem| stem == "sample") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for slug in slugs.iter().filter(|slug| code.contains(&format!("\"{slug}\""))) {
                found.push(format!("{}: {slug}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_conditions_of_absence_are_those_of_the_docs_and_of_explain() {
    let docs = include_str!("../../docs/reports.md");
    let from = docs.find("| reason | what has to hold |").expect("the list");
    let table: Vec<(String, String)> = docs[from..]
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].trim_matches('`').to_owned(), cells[1].to_owned())
        })
        .collect();
    let own: Vec<(String, String)> = rasaudit::classify::conditions_of_absence()
        .map(|condition| (condition.code.name().to_owned(), condition.words.to_owned()))
        .collect();
    assert_eq!(table, own);
    let explained = |from: &str, to: &str, port: &str| {
        stdout(&rasaudit(["explain", "--from", from, "--to", to, "--port", port]))
    };
    let steady = explained("rdsh-agent", "broker", "20003/tcp");
    for (code, words) in &own {
        assert!(steady.contains(&format!("{code:<17} {words}")), "{code}: {steady}");
    }
    // A row whose traffic is optional is never missing, so no conditions for an absence claim are
    // shown.
    assert!(steady.contains("reports it as missing"), "{steady}");
    assert!(!explained("broker", "broker", "135/tcp").contains("reports it as missing"));
    assert!(!explained("broker", "broker", "135/tcp").contains("feature-unknown"));
}

/// Returns the message and the action of the only finding with this code.
fn explained(inventory: &str, wire: &Wire, code: &str) -> [String; 2] {
    let report = audit(inventory, wire, "csv");
    let rows = columns(&report, &["code", "message", "action"]);
    let mut rows = rows.into_iter().filter(|row| row[0] == code);
    let row = rows.next().unwrap_or_else(|| panic!("no {code}:\n{report}"));
    assert!(rows.next().is_none(), "{report}");
    row[1..].to_vec().try_into().expect("two cells")
}

/// What is said about many ports is true of all of them.
#[test]
fn a_sentence_about_many_ports_is_true_of_all_of_them() {
    let sql = "[[host]]\nname = \"sql1\"\naddresses = [\"10.1.0.90\"]\nroles = [\"sql-server\"]\n";
    let both = farm("ras-19", "", sql).replace("[\"broker\"]", "[\"broker\", \"gateway-normal\"]");
    let scan = |from: &str, ports: &[u16]| {
        let mut wire = Wire::default();
        for port in ports {
            wire.connect(0, (from, 50_000), (BROKER, *port));
        }
        wire
    };
    // The ports have different clients.
    let ports = [80, 135, 443, 445, 20_001, 20_002, 20_003, 20_009, 20_030, 30_020, 3389, 49_179];
    let [message, _] = explained(&both, &scan("10.1.0.90", &ports), "wrong-source");
    assert!(
        message.contains("documents these ports of the server only for other clients"),
        "{message}"
    );
    let [message, _] = explained(&both, &scan("10.1.0.90", &ports[..1]), "wrong-source");
    assert!(message.contains("only for clients with one of the roles HALB, "), "{message}");
    // The ports have different purposes.
    let off = "[farm.features]\ndevice-manager = false\nrdp-load-balancing = false\n";
    let off = both.replacen("[[host]]", &format!("{off}[[host]]"), 1);
    let inside: Vec<u16> = ports.into_iter().filter(|port| ![80, 443].contains(port)).collect();
    let [message, _] = explained(&off, &scan(OUTSIDE, &inside), "exposed-internal");
    assert!(message.contains("these ports are internal to the farm, and the client"), "{message}");
    // Only one of the ports was moved, for the hosts of a group of roles.
    let moved = "[[moved-port]]\nrole = \"gateway\"\ntransport = \"tcp\"\nfrom = 135\nto = 1350\n";
    let moved = farm("ras-19", "", moved);
    let to_gateway = |ports: &[u16]| {
        let mut wire = Wire::default();
        for port in ports {
            wire.connect(0, (BROKER, 50_000), (GW, *port));
        }
        wire
    };
    let [message, _] = explained(&moved, &to_gateway(&[135]), "port-not-in-matrix");
    assert!(message.ends_with("this port of RAS Secure Gateway was moved"), "{message}");
    let many: Vec<u16> = [135].into_iter().chain(4000..4012).collect();
    let [message, _] = explained(&moved, &to_gateway(&many), "port-not-in-matrix");
    assert!(
        message.contains(
            "but not on these ports; according to the inventory, some of them were moved"
        ),
        "{message}"
    );
}

/// If a server has a role only by its name, the clients of this role are named.
#[test]
fn the_clients_of_a_named_server_are_told() {
    let mut wire = Wire::default();
    let hello = client_hello("download.parallels.com", false, 9);
    wire.start(0, (RDSH, 50_000), ("203.0.113.5", 443), &hello, 1400);
    let [message, _] = explained(&farm("ras-19", "", ""), &wire, "wrong-source");
    assert!(message.ends_with("only for clients with the role Parallels Client"), "{message}");
}

/// Traffic that an overlay would document should not be blocked before the overlay is considered.
#[test]
fn the_advice_about_traffic_of_an_overlay_names_the_overlay() {
    let plain = farm("ras-19", "", "");
    let action = |from: &str, port: u16, code: &str| {
        explained(&plain, &connection(from, DC, port), code)[1].clone()
    };
    let overlay = "If the overlay windows-domain applies to the farm, set overlays = [\"windows-domain\"] in [farm]; otherwise ";
    let starts = |action: &str, end: &str| action.starts_with(&format!("{overlay}{end}"));
    assert!(starts(
        &action(RDSH, 88, "wrong-source"),
        "find out the reason for the traffic from rdsh1"
    ));
    assert!(starts(&action(BROKER, 445, "port-not-in-matrix"), "find out which program"));
    assert!(action(BROKER, 4444, "port-not-in-matrix").starts_with("Find out which program"));
}

/// A port is documented over another transport only if the features of the row are not off.
#[test]
fn a_feature_that_is_off_documents_no_other_transport() {
    let mut wire = Wire::default();
    wire.udp(0, (GW, 50_000), (BROKER, 20_002));
    wire.udp(5, (BROKER, 20_002), (GW, 50_000));
    let [message, action] = explained(&farm("ras-19", "", ""), &wire, "wrong-transport");
    assert!(message.ends_with("documents this port in this direction only over TCP"), "{message}");
    assert!(
        action.starts_with("Find out which program uses the port over UDP on broker1"),
        "{action}"
    );
    let monitor = "[[host]]\nname = \"mon1\"\naddresses = [\"10.1.0.99\"]\nroles = [\"performance-monitor\"]\n";
    let mut wire = Wire::default();
    wire.udp(0, (BROKER, 50_000), ("10.1.0.99", 8086));
    wire.udp(5, ("10.1.0.99", 8086), (BROKER, 50_000));
    let code = |state: &str| {
        let features = format!("[farm.features]\nperformance-monitor = {state}\n");
        judged(&farm("ras-19", &features, monitor), &wire, "10.1.0.99", 8086)[0].clone()
    };
    assert_eq!(code("true"), "wrong-transport");
    assert_eq!(code("false"), "port-not-in-matrix");
}

/// Two hosts hide nothing behind their link-local addresses, even if the inventory does not list
/// their hardware addresses.
#[test]
fn link_local_addresses_are_those_of_the_hosts_with_their_hardware_addresses_by_a_guess() {
    // The last byte of the hardware address that each address uses.
    let judged = |port: u16, macs: &[(&str, u8)]| {
        let mut wire = Wire::default();
        wire.connect(0, (RDSH, 50_000), (BROKER, 20_003));
        wire.connect(1_000, ("10.1.9.7", 50_000), (GW, 443));
        wire.connect(2_000, ("169.254.0.7", 50_001), ("169.254.0.8", port));
        for (_, frame) in &mut wire.0 {
            let from = std::net::Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
            let mac = macs.iter().find(|(address, _)| *address == from.to_string());
            frame[11] = mac.map_or(frame[29], |(_, mac)| *mac);
        }
        let report = Site::new(&farm("ras-19", "", ""), &wire).report("conversations");
        let wanted = ["client_name", "server_name", "code", "certain", "doubt", "server"];
        let conversations = columns(&report, &wanted);
        let row = conversations.iter().find(|row| row[5] == "169.254.0.8").expect("a row");
        row[..5].join(" ").trim().to_owned()
    };
    let both = [("169.254.0.7", 77), ("169.254.0.8", 78)];
    let hosts = [(RDSH, 77), (BROKER, 78)];
    let known = [both, hosts].concat();
    assert_eq!(judged(4444, &known), "rdsh1 broker1 port-not-in-matrix no spoof");
    // Anyone can forge a hardware address, so the guess permits nothing.
    assert_eq!(judged(20_003, &known), "unknown-host yes");
    // Another hardware address, or one that several hosts use, as with a router, shows nothing, but
    // the other end may be known.
    assert_eq!(judged(4444, &[&both[..1], &hosts].concat()), "rdsh1  unknown-host no spoof");
    let shared = [&known[..], &[("10.1.9.7", 77)]].concat();
    assert_eq!(judged(4444, &shared), "broker1 unknown-host no spoof");
    let both_shared = [&shared[..], &[(GW, 78)]].concat();
    assert_eq!(judged(4444, &both_shared), "unknown-host yes");
}

#[test]
fn a_hardware_address_of_two_hosts_is_reported_and_recognizes_neither() {
    let site = |second: &str| {
        let macs = |text: String, host: &str, mac: &str| {
            let name = format!("name = \"{host}\"\n");
            text.replace(&name, &format!("{name}macs = [\"{mac}\"]\n"))
        };
        let text = macs(farm("ras-19", "", ""), "rdsh1", "02:00:00:00:00:1e");
        let text = macs(text, "broker1", second);
        let mut wire = Wire::default();
        wire.connect(0, ("169.254.0.7", 50_000), (DC, 4444));
        wire.sent_by(0, 0x1e, 64);
        let site = Site::new(&text, &wire);
        let path = site.inventory.display().to_string();
        let checked = stderr(&rasaudit(["inventory", "check", &path]));
        let client = columns(&site.report("conversations"), &["client_name"])[0][0].clone();
        (checked, client)
    };
    let (checked, client) = site("02:00:00:00:00:1f");
    assert_eq!((checked.as_str(), client.as_str()), ("", "rdsh1"));
    let (checked, client) = site("02:00:00:00:00:1e");
    assert!(
        checked.contains("the MAC address 02:00:00:00:00:1e is listed for broker1 and rdsh1"),
        "{checked}"
    );
    assert_eq!(client, "");
}
