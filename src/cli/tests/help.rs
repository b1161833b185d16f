//! The help: every command, in one snapshot.

use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// The help of a command and of all below it, as a terminal of 100 columns
/// shows it.
fn help(command: &mut Command, path: &str, text: &mut String) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    if command.get_name() == "help" {
        return;
    }
    text.push_str(&format!("=== {path}\n{}\n", command.render_long_help()));
    for sub in command.get_subcommands_mut() {
        help(sub, &path, text);
    }
}

#[test]
fn the_whole_help() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    help(&mut command, "", &mut text);
    insta::assert_snapshot!(text);
}

#[test]
fn no_command_contradicts_itself() {
    Cli::command().debug_assert();
}

#[test]
fn every_argument_has_help() {
    fn check(command: &Command, path: &str) {
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some() || argument.is_hide_set(),
                "{path} {} has no help",
                argument.get_id()
            );
        }
        for sub in command.get_subcommands() {
            check(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    check(&Cli::command(), "skep");
}
