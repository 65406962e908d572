//! The name servers in use and their health, as lines of `proxyctl status`.

use codex_network_control::message::{NameServer, Names};

use crate::output::{ago, counted, printable};

/// One line for each name server, or one line that says why no server is known.
pub(crate) fn lines(names: &Names) -> Vec<String> {
    if names.servers.is_empty() {
        let why = names.problem.as_deref().map(printable);
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        return vec![format!("no name server is known{why}")];
    }
    let from = match names.from.as_str() {
        Names::SYSTEM => "from /etc/resolv.conf".to_owned(),
        Names::SETTINGS => "from [daemon.resolver]".to_owned(),
        other => format!("from {}", printable(other)),
    };
    let servers = names.servers.iter().enumerate();
    let line = |(index, server): (usize, &NameServer)| {
        let from = if index == 0 {
            format!(" ({from})")
        } else {
            String::new()
        };
        format!("{}{from}: {}", printable(&server.address), health(server))
    };
    servers.map(line).collect()
}

/// The health of a name server, in words.
pub(crate) fn health(server: &NameServer) -> String {
    let answered = server
        .last_success
        .map(|at| format!("answered {} ago", ago(at)));
    if server.failures == 0 {
        return answered.unwrap_or_else(|| "not used yet".to_owned());
    }
    let failures = usize::try_from(server.failures).unwrap_or(usize::MAX);
    let failed = counted(failures, "failure", "failures in a row");
    let error = server.last_error.as_deref().map(printable);
    let error = error.map_or_else(String::new, |error| format!(" ({error})"));
    match answered {
        Some(answered) => format!("{failed}{error}, {answered}"),
        None => format!("{failed}{error}, never answered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l14_each_name_server_has_a_line_with_its_health() {
        let servers = vec![
            NameServer {
                address: "192.0.2.1:53".to_owned(),
                ..NameServer::default()
            },
            NameServer {
                address: "192.0.2.2:53".to_owned(),
                failures: 1,
                last_error: Some("no answer\u{1b}[2J".to_owned()),
                ..NameServer::default()
            },
        ];
        let names = |from: &str, servers| Names {
            from: from.to_owned(),
            servers,
            problem: None,
        };
        assert_eq!(
            lines(&names(Names::SYSTEM, servers)),
            [
                "192.0.2.1:53 (from /etc/resolv.conf): not used yet",
                "192.0.2.2:53: 1 failure (no answer\\u{1b}[2J), never answered",
            ]
        );
        let nothing = Names {
            problem: Some("the file is empty".to_owned()),
            ..names(Names::SYSTEM, Vec::new())
        };
        assert_eq!(
            lines(&nothing),
            ["no name server is known (the file is empty)"]
        );
    }
}
