//! From a text to names and values: the two forms that libpq knows.
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>

/// Names and values in the order in which they stand, hosts and ports as lists with commas.
pub(super) type Pairs = Vec<(String, String)>;

/// Splits either form; the error says what is wrong with the text and repeats none of it, since it may hold a password.
pub(super) fn split(text: &str) -> Result<Pairs, String> {
    let text = text.trim();
    match ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => url(rest),
        None if text.contains("://") => {
            Err("the URL does not begin with postgres:// or postgresql://".into())
        }
        None if text.contains('=') => words(text),
        None => Err("it is neither a URL, postgres://USER@HOST:PORT/DATABASE, nor NAME=VALUE \
                     pairs"
            .into()),
    }
}

fn url(rest: &str) -> Result<Pairs, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(who, at)| (Some(who), at));
    let mut pairs = Pairs::new();
    let mut push = |name: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((name.to_owned(), decode(value)?));
        }
        Ok(())
    };
    if let Some(account) = account {
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        push("user", user)?;
        push("password", password)?;
    }
    if !hosts.is_empty() {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = host_and_port(host)?;
            names.push(name);
            ports.push(port);
        }
        push("host", &names.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            push("port", &ports.join(","))?;
        }
    }
    push("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err("a parameter after the question mark has no value".into());
        };
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

fn host_and_port(host: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or("an address has [ and no ]")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if rest.is_empty() => Ok((name, "")),
            None => Err("after ] of an address comes :PORT or nothing".into()),
        };
    }
    match host.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("an IPv6 address stands in brackets: [::1]:5432".into())
        }
        Some((name, port)) => Ok((name, port)),
        None => Ok((host, "")),
    }
}

/// `name = 'va\'lue' name=value`.
fn words(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') {
            return Err(format!("after {name} comes an equals sign and a value"));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\\') => value.extend(rest.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err(format!("the quote of {name} does not end")),
                None => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
            }
        }
        pairs.push((name, value));
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.extend(u8::try_from(high * 16 + low)),
            _ => return Err("after % come two hexadecimal digits; write a plain % as %25".into()),
        }
    }
    String::from_utf8(bytes).map_err(|_| "a %-sequence in it is not UTF-8".into())
}
