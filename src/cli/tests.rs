//! The command line, walked command by command, and the commands that texts name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use super::Arguments;

/// Commands without `--json`, each with the reason.
const WITHOUT_JSON: [(&str, &str); 10] = [
    ("init", "prints the commands to run next, for a reader; exit code 2 if there is a configuration"),
    ("credential get", "prints what Git reads from its credential helpers"),
    ("credential store", "does nothing, for Git"),
    ("credential erase", "does nothing, for Git"),
    ("demo", "is a tour for a reader"),
    ("up", "runs until it is stopped; /_health, /_ready and the log in JSON are for programs"),
    ("lambda", "answers the runtime of AWS Lambda"),
    ("health", "prints the answer of the process, which is JSON"),
    ("completions", "prints a script"),
    ("man", "prints a manual page"),
];

/// Longest description of a command in a list of commands, in characters.
const MAX_ABOUT: usize = 120;

/// All commands below one, each with its words.
fn walk(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    found.push((words.to_owned(), command.clone()));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let words = format!("{words} {}", sub.get_name());
        walk(sub, words.trim(), found);
    }
}

/// All commands. That without words is the program itself.
fn commands() -> Vec<(String, Command)> {
    let mut root = Arguments::command();
    root.build();
    let mut found = Vec::new();
    walk(&root, "", &mut found);
    assert!(found.len() > 25, "{}", found.len());
    found
}

/// The commands that do something themselves.
fn leaves() -> Vec<(String, Command)> {
    let mut leaves = commands();
    leaves.retain(|(_, command)| !command.has_subcommands());
    leaves
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a command as a shell splits them: up to a comment, an operator or a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '<' | ';') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let end = words.iter().position(|word| word == "&&" || word == "&").unwrap_or(words.len());
    words.truncate(end);
    words
}

/// Parses a command line with the parser of the program.
fn parse(words: &[String]) -> Result<(), clap::Error> {
    Arguments::try_parse_from(words).map(drop)
}

/// Lines of the help after its heading `Example`.
fn examples(help: &str) -> Vec<String> {
    let after = help.split_once("\nExample").map_or("", |(_, after)| after);
    let lines = after.lines().skip(1).take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_command_says_in_one_line_what_it_does() {
    for (words, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let length = about.chars().count();
        assert!((10..=MAX_ABOUT).contains(&length) && !about.contains('\n'), "{words:?}: {about:?} ({length})");
        assert!(about.starts_with(char::is_uppercase), "{words:?}: {about:?}");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{words:?}: {} has no help", argument.get_id());
        }
    }
}

#[test]
fn every_command_has_examples_that_it_takes() {
    for (command, parsed) in commands() {
        let help = parsed.clone().render_long_help().to_string();
        let examples = examples(&help);
        let own: Vec<&String> = examples.iter().filter(|line| line.starts_with("gitferry ")).collect();
        assert!(!own.is_empty(), "{command:?} has no example: {help}");
        assert!(own.iter().any(|line| line.starts_with(&format!("gitferry {command}"))), "{command:?}: {own:?}");
        for line in own {
            if let Err(error) = parse(&words(line)) {
                panic!("the example of {command:?} does not parse: {line}\n{error}");
            }
        }
    }
}

#[test]
fn every_command_that_a_script_reads_has_json() {
    let leaves = leaves();
    for (name, reason) in WITHOUT_JSON {
        assert!(leaves.iter().any(|(command, _)| command == name), "{name} ({reason}) is no command");
    }
    let documented = read(&root("docs/json.md"));
    for (name, command) in &leaves {
        let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        let is_exempt = WITHOUT_JSON.iter().any(|(exempt, _)| exempt == name);
        assert_ne!(has_json, is_exempt, "{name}: --json, or an exception with a reason");
        assert!(!has_json || rows(&documented).contains(name), "docs/json.md has no row for {name}");
    }
}

/// The commands of the rows in docs/json.md: `repo create`, `rename` in one cell are `repo create` and `repo rename`.
fn rows(text: &str) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap_or_default();
        let mut group = String::new();
        for name in cell.split('`').skip(1).step_by(2) {
            if let Some((words, _)) = name.rsplit_once(' ') {
                group = format!("{words} ");
                rows.insert(name.to_owned());
            } else {
                rows.insert(format!("{group}{name}"));
            }
        }
    }
    rows
}

/// All files below a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let ends = path.extension().and_then(|ending| ending.to_str()).is_some_and(|e| endings.contains(&e));
            match path {
                path if path.is_dir() => folders.push(path),
                path if ends => found.push(path),
                _ => {}
            }
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", &["md"]);
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(root));
    pages
}

/// Lines of the blocks of a page that are marked as shell.
fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_shell = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => is_shell = language == "sh",
            None if is_shell && !words(line).is_empty() => lines.push(line.trim().to_owned()),
            None => {}
        }
    }
    lines
}

/// Checks a line of a shell block: each of its commands exists, and takes these arguments.
fn check_shell(page: &Path, line: &str) {
    let justfile = read(&root("Justfile"));
    let manifest = read(&root("Cargo.toml"));
    for part in line.split(" && ") {
        let words = words(part);
        let [program, arguments @ ..] = &words[..] else { continue };
        let fail = |reason: &str| panic!("{}: {line}: {reason}", page.display());
        let own = |arguments: &[String]| {
            let line: Vec<String> = [&["gitferry".to_owned()], arguments].concat();
            parse(&line).unwrap_or_else(|error| fail(&error.to_string()));
        };
        match program.as_str() {
            "gitferry" => own(arguments),
            "cargo" => {
                let at = arguments.iter().position(|word| word == "--");
                let (of_cargo, of_program) = arguments.split_at(at.unwrap_or(arguments.len()));
                if of_cargo[0] == "run" {
                    own(of_program.get(1..).unwrap_or_default());
                }
                for pair in of_cargo.windows(2) {
                    let exists = match pair[0].as_str() {
                        "--bench" => manifest.contains(&format!("name = \"{}\"", pair[1])),
                        "--test" => root(&format!("tests/{}/main.rs", pair[1])).exists(),
                        "-p" => root(&format!("src/{}/Cargo.toml", pair[1].trim_start_matches("gitferry-"))).exists(),
                        _ => true,
                    };
                    assert!(exists, "{}: {line}: there is no {} {}", page.display(), pair[0], pair[1]);
                }
            }
            "just" => {
                let recipe = format!("\n{}:", arguments[0]);
                assert!(justfile.contains(&recipe), "{}: {line}: no such recipe", page.display());
            }
            path if path.contains('/') && root(path).exists() => {}
            "cd" | "git" => {}
            other => fail(&format!("{other} is neither a command nor a file of this repository")),
        }
    }
}

#[test]
fn what_the_pages_run_exists_and_parses() {
    let mut count = 0;
    for page in pages() {
        for line in shell_lines(&read(&page)) {
            check_shell(&page, &line);
            count += 1;
        }
    }
    assert!(count > 15, "only {count} lines were found");
}

/// Commands between backticks in a text. A line break within is a space; `{…}` stands for a value.
fn mentioned(text: &str) -> Vec<String> {
    let text = text.replace("\\\"", "\"");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("`gitferry ") {
        let Some(end) = text[at + 1..].find('`') else { continue };
        let mut command = text[at + 1..at + 1 + end].split_whitespace().collect::<Vec<_>>().join(" ");
        while let (Some(open), Some(close)) = (command.find('{'), command.find('}')) {
            command.replace_range(open..=close, "x");
        }
        found.push(command);
    }
    found
}

/// Removes the fences of code blocks with their content, and comment signs and continued lines of Rust.
fn prose(path: &Path) -> String {
    let text = read(path);
    if path.extension().is_some_and(|ending| ending == "rs") {
        let mut joined = String::new();
        for line in text.lines() {
            let line = line.trim_start();
            let line = ["//! ", "/// ", "// "].iter().find_map(|sign| line.strip_prefix(sign)).unwrap_or(line);
            match line.strip_suffix('\\') {
                Some(line) => joined += line,
                None => joined.extend([line, "\n"]),
            }
        }
        return joined;
    }
    let blocks = text.split("```");
    blocks.step_by(2).collect()
}

/// Texts may name a command without its arguments, but none that does not exist, and no option that it lacks.
#[test]
fn every_command_that_a_text_names_exists() {
    use ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    let mut count = 0;
    let mut texts = pages();
    texts.extend(files("src", &["rs", "toml"]));
    texts.extend(files("docker", &["toml", "yaml"]));
    texts.extend(files("infra", &["tf", "tftpl"]));
    for path in texts.iter().filter(|path| !path.ends_with("src/cli/tests.rs")) {
        for command in mentioned(&prose(path)) {
            if command.contains(" COMMAND") {
                continue;
            }
            count += 1;
            let Err(error) = parse(&words(&command)) else { continue };
            let is_part = matches!(
                error.kind(),
                DisplayHelp
                    | DisplayHelpOnMissingArgumentOrSubcommand
                    | DisplayVersion
                    | MissingRequiredArgument
                    | MissingSubcommand
            );
            assert!(is_part, "{}: {command}\n{error}", path.display());
        }
    }
    assert!(count > 60, "only {count} commands were found");
}

/// Lists of words in brackets behind `command` or `CMD`, as in compose files, Dockerfiles and Terraform: the program's
/// arguments. Expressions of Terraform stand for a value.
fn listed_commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((before, list)) = line.split_once('[') else { continue };
        let before = before.trim_end_matches([' ', '=', ':']).trim_start();
        if !before.ends_with("command") && !before.ends_with("CMD") {
            continue;
        }
        let list = list.rsplit_once(']').map_or(list, |(list, _)| list);
        let word = |word: &str| match word.trim().trim_matches('"') {
            text if text.starts_with("${") => {
                text.rsplit_once('}').map_or(String::new(), |(_, unit)| format!("1{unit}"))
            }
            text if text.starts_with("tostring(") => "4".to_owned(),
            text => text.to_owned(),
        };
        let mut words: Vec<String> = list.split(", ").map(word).collect();
        if let Some(program) = words.iter().position(|word| word.ends_with("/gitferry")) {
            words.drain(..=program);
        }
        found.push(words);
    }
    found
}

#[test]
fn what_containers_and_tasks_run_parses() {
    let mut count = 0;
    for path in ["docker/compose.yaml", "docker/Dockerfile"].map(root).into_iter().chain(files("infra", &["tf"])) {
        for words in listed_commands(&read(&path)) {
            let line: Vec<String> = [&["gitferry".to_owned()], &words[..]].concat();
            parse(&line).unwrap_or_else(|error| panic!("{}: {words:?}: {error}", path.display()));
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} commands were found");
}

#[test]
fn words_are_split_as_a_shell_does() {
    for (line, expected) in [
        ("gitferry demo     # a tour", &["gitferry", "demo"][..]),
        (
            "gitferry import a b --refs 'refs/heads/*' \"x y\"",
            &["gitferry", "import", "a", "b", "--refs", "refs/heads/*", "x y"],
        ),
        ("gitferry man | man -l -", &["gitferry", "man"]),
        ("gitferry completions bash > /etc/x", &["gitferry", "completions", "bash"]),
        ("gitferry init --dir d && cd d", &["gitferry", "init", "--dir", "d"]),
        ("# nothing", &[]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}
