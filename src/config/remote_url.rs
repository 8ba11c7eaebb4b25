//! URL templates of the repositories of a Git server.

use reqwest::Url;

/// Placeholder for the name of a repository.
const NAME: &str = "{name}";
/// SSH user of URLs without one.
const DEFAULT_USER: &str = "git";
/// SSH port of URLs without one.
const SSH_PORT: u16 = 22;

/// A URL with the placeholder `{name}` in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlTemplate {
    /// `https://HOST[:PORT]/PATH`, or `http`.
    Http(String),
    /// `ssh://[USER@]HOST[:PORT]/PATH`, or `[USER@]HOST:PATH`.
    Ssh(SshUrl),
}

/// An SSH URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshUrl {
    /// User to log in as.
    pub user: String,
    /// Host name or address. An IPv6 address has no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path for `git-upload-pack`: absolute, below `~`, or relative to the user's home.
    pub path: String,
}

/// URL of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// HTTP or HTTPS URL without a trailing `/`.
    Http(Url),
    /// SSH URL.
    Ssh(SshUrl),
}

impl SshUrl {
    /// Host of the server's web interface in URL form. Providers with SSH on port 443 use separate host names.
    pub fn web_host(&self) -> String {
        match self.host.as_str() {
            "ssh.github.com" => "github.com".into(),
            "altssh.gitlab.com" => "gitlab.com".into(),
            address if address.contains(':') => format!("[{address}]"),
            host => host.into(),
        }
    }
}

impl UrlTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// Returns the violation without quoting parts of the URL that may be secret.
    pub fn parse(text: &str) -> Result<UrlTemplate, String> {
        if text.matches(NAME).count() != 1 {
            return Err("url needs {name} exactly once, in place of the repository's name".into());
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("url contains spaces or control characters".into());
        }
        match text.split_once("://") {
            Some(("http" | "https", _)) => http(text),
            Some(("ssh" | "git+ssh" | "ssh+git", rest)) => ssh(rest).map(UrlTemplate::Ssh),
            Some((scheme, _)) => Err(format!("url: the scheme {scheme} is not https, http or ssh")),
            None => scp(text).map(UrlTemplate::Ssh),
        }
    }

    /// Returns the URL of a repository. The name must have passed `check_remote_name`.
    pub fn repository(&self, name: &str) -> Result<RepositoryUrl, String> {
        match self {
            UrlTemplate::Http(text) => {
                let text = text.replacen(NAME, &in_url(name), 1);
                Url::parse(text.trim_end_matches('/')).map(RepositoryUrl::Http).map_err(|error| format!("url: {error}"))
            }
            UrlTemplate::Ssh(url) => {
                Ok(RepositoryUrl::Ssh(SshUrl { path: url.path.replacen(NAME, name, 1), ..url.clone() }))
            }
        }
    }

    /// Name of the host.
    pub fn host(&self) -> String {
        match (self, self.repository("name")) {
            (UrlTemplate::Ssh(url), _) => url.host.clone(),
            (_, Ok(RepositoryUrl::Http(url))) => host_of(&url).to_owned(),
            _ => String::new(),
        }
    }

    /// Scheme, host and port of the server.
    pub fn server(&self) -> String {
        match (self, self.repository("name")) {
            (UrlTemplate::Ssh(url), _) => format!("ssh://{}:{}", url.host.to_ascii_lowercase(), url.port),
            (_, Ok(RepositoryUrl::Http(url))) => url.origin().ascii_serialization(),
            (UrlTemplate::Http(text), _) => text.clone(),
        }
    }

    /// Returns true if requests are unencrypted and leave this machine.
    pub fn is_cleartext(&self) -> bool {
        let UrlTemplate::Http(text) = self else { return false };
        text.starts_with("http:") && !is_loopback(&self.host())
    }

    /// Returns true for an SSH URL.
    pub fn is_ssh(&self) -> bool {
        matches!(self, UrlTemplate::Ssh(_))
    }
}

impl std::fmt::Display for RepositoryUrl {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RepositoryUrl::Http(url) => write!(out, "{url}"),
            RepositoryUrl::Ssh(url) => write!(out, "{url}"),
        }
    }
}

impl std::fmt::Display for SshUrl {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SshUrl { user, host, port, path } = self;
        write!(out, "ssh://{user}@")?;
        if host.contains(':') {
            write!(out, "[{host}]")?;
        } else {
            write!(out, "{host}")?;
        }
        if *port != SSH_PORT {
            write!(out, ":{port}")?;
        }
        if path.starts_with('/') {
            return write!(out, "{path}");
        }
        // No standard URL expresses a path relative to the home directory; `/~/` is the convention.
        write!(out, "/{}{path}", if path.starts_with('~') { "" } else { "~/" })
    }
}

/// Percent-encodes a path, except for `/` and the characters that RFC 3986 allows in path segments.
pub fn in_url(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            url.push(byte.into());
        } else {
            url += &format!("%{byte:02X}");
        }
    }
    url
}

/// Host of the URL of a Git server.
///
/// # Panics
/// A URL of another scheme than `http` or `https` may have no host.
pub fn host_of(url: &Url) -> &str {
    let Some(host) = url.host_str() else { unreachable!("a URL of the scheme {} has a host", url.scheme()) };
    host
}

/// Returns true if the host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn http(text: &str) -> Result<UrlTemplate, String> {
    let url = Url::parse(&text.replacen(NAME, "name", 1)).map_err(|error| format!("url: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds credentials; configure them in `auth`".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("url must not have a query or fragment".into());
    }
    let path = text.splitn(4, '/').nth(3).unwrap_or_default();
    if !path.contains(NAME) {
        return Err("url needs {name} in its path".into());
    }
    Ok(UrlTemplate::Http(text.into()))
}

fn ssh(rest: &str) -> Result<SshUrl, String> {
    let (authority, path) = rest.split_once('/').ok_or("url has no path")?;
    // Like Git, `/~user` is the home directory of that user.
    let path = if path.starts_with('~') { path.to_owned() } else { format!("/{path}") };
    let (user, address) = user_and_host(authority)?;
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("url has a [ without a ]")?;
            (host, after.strip_prefix(':'))
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None => SSH_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("url has an invalid port")?,
    };
    checked(SshUrl { user, host: host.into(), port, path })
}

fn scp(text: &str) -> Result<SshUrl, String> {
    let form = "url has none of the forms https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH";
    let (user, rest) = match text.split_once('@') {
        Some((user, rest)) => (user, rest),
        None => (DEFAULT_USER, text),
    };
    let (host, path) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or(form)?,
        None => rest.split_once(':').ok_or(form)?,
    };
    if user.contains(':') {
        return Err("url holds a password; configure a key in `auth` instead".into());
    }
    if user.contains('/') || host.contains('/') {
        return Err(form.into());
    }
    checked(SshUrl { user: user.into(), host: host.into(), port: SSH_PORT, path: path.into() })
}

fn user_and_host(authority: &str) -> Result<(String, &str), String> {
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => Err("url holds a password; configure a key in `auth` instead".into()),
        Some((user, host)) => Ok((user.into(), host)),
        None => Ok((DEFAULT_USER.into(), authority)),
    }
}

fn checked(url: SshUrl) -> Result<SshUrl, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if url.host.is_empty() || url.host.starts_with('-') || !url.host.chars().all(allowed) {
        return Err("url has no valid host".into());
    }
    if url.user.is_empty() || url.user.starts_with('-') {
        return Err("url has no valid user".into());
    }
    // The program at the other end would parse a path with a leading `-` as an option.
    if !url.path.contains(NAME) || url.path.starts_with('-') {
        return Err("url needs {name} in its path".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        UrlTemplate::parse(template).unwrap().repository("team/app").unwrap().to_string()
    }

    #[test]
    fn names_mean_the_same_in_every_url() {
        for (name, url) in [
            (".github", "https://h/g/.github.git"),
            ("libstdc++", "https://h/g/libstdc++.git"),
            ("my project", "https://h/g/my%20project.git"),
            ("a/b/c/d", "https://h/g/a/b/c/d.git"),
            ("x?y#z%20", "https://h/g/x%3Fy%23z%2520.git"),
            ("ä", "https://h/g/%C3%A4.git"),
        ] {
            let template = UrlTemplate::parse("https://h/g/{name}.git").unwrap();
            assert_eq!(template.repository(name).unwrap().to_string(), url);
            let ssh = UrlTemplate::parse("git@h:g/{name}.git").unwrap().repository(name).unwrap();
            assert!(matches!(ssh, RepositoryUrl::Ssh(url) if url.path == format!("g/{name}.git")), "{name}");
        }
    }

    #[test]
    fn forms() {
        for (template, url) in [
            ("https://git.example/{name}.git", "https://git.example/team/app.git"),
            ("https://git.example:8443/v1/repos/{name}/", "https://git.example:8443/v1/repos/team/app"),
            ("http://127.0.0.1:80/{name}", "http://127.0.0.1/team/app"),
            ("ssh://git.example/{name}.git", "ssh://git@git.example/team/app.git"),
            ("ssh://ann@git.example:2222/srv/{name}.git", "ssh://ann@git.example:2222/srv/team/app.git"),
            ("ssh://[::1]:2222/{name}", "ssh://git@[::1]:2222/team/app"),
            ("ssh://git.example/~ann/{name}", "ssh://git@git.example/~ann/team/app"),
            ("ann@git.example:{name}.git", "ssh://ann@git.example/~/team/app.git"),
            ("git.example:/srv/{name}.git", "ssh://git@git.example/srv/team/app.git"),
            ("ann@[fe80::1]:{name}", "ssh://ann@[fe80::1]/~/team/app"),
        ] {
            assert_eq!(filled(template), url, "{template}");
        }
    }

    #[test]
    fn paths_for_the_program_at_the_other_end() {
        for (template, path) in [
            ("ssh://h/{name}.git", "/team/app.git"),
            ("ssh://h/~ann/{name}", "~ann/team/app"),
            ("h:{name}.git", "team/app.git"),
            ("h:/srv/{name}", "/srv/team/app"),
        ] {
            let RepositoryUrl::Ssh(url) = UrlTemplate::parse(template).unwrap().repository("team/app").unwrap() else {
                panic!("{template}")
            };
            assert_eq!(url.path, path, "{template}");
        }
    }

    #[test]
    fn what_is_refused_and_secrets_are_not_shown() {
        for bad in [
            "",
            "https://git.example/app.git",
            "https://git.example/{name}/{name}",
            "https://{name}.example/app",
            "https://ann:hunter2@git.example/{name}",
            "https://hunter2@git.example/{name}",
            "ssh://ann:hunter2@git.example/{name}",
            "ann:hunter2@git.example:{name}",
            "https://git.example/{name}?token=hunter2",
            "https://git.example/{name}#hunter2",
            "https://git.example/a b/{name}",
            "ftp://git.example/{name}",
            "file:///srv/{name}",
            "/srv/{name}",
            "ssh://-oProxyCommand=x/{name}",
            "ssh://git.example:0/{name}",
            "ssh://git.example:port/{name}",
            "ssh:///{name}",
            "git.example:-{name}",
        ] {
            let error = UrlTemplate::parse(bad).map(drop).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn hosts_on_the_web() {
        for (template, host) in [
            ("ssh://git@ssh.github.com:443/{name}", "github.com"),
            ("ssh://git@altssh.gitlab.com:443/{name}", "gitlab.com"),
            ("ssh://git@[::1]:2222/{name}", "[::1]"),
            ("git@git.example:{name}", "git.example"),
        ] {
            let UrlTemplate::Ssh(url) = UrlTemplate::parse(template).unwrap() else { panic!("{template}") };
            assert_eq!(url.web_host(), host, "{template}");
        }
    }

    #[test]
    fn who_can_read_along() {
        for (template, cleartext) in [
            ("http://git.example/{name}", true),
            ("https://git.example/{name}", false),
            ("http://127.0.0.1:8080/{name}", false),
            ("http://localhost/{name}", false),
            ("http://[::1]/{name}", false),
            ("git.example:{name}", false),
        ] {
            assert_eq!(UrlTemplate::parse(template).unwrap().is_cleartext(), cleartext, "{template}");
        }
    }
}
