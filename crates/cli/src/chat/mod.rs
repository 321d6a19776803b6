//! A chat in the terminal: line editing and history, commands that begin with a slash, answers as they come.
//!
//! Ctrl-C drops the line that is being typed, or stops the answer that is being made; Ctrl-D on an empty line ends.

mod command;
mod editor;

use std::io::{self, Write as _};

use anyhow::Result;
use whit_engine::{Engine, FinishReason, Message, Overflow, Prompt};
use whit_hub::Store;

use crate::commands::run::{Settings, answer};
use crate::commands::show;
use crate::failure;
use command::{Command, Topic};
use editor::{Editor, Line};

struct Chat<'e> {
    engine: &'e mut Engine,
    settings: Settings,
    name: &'e str,
    /// What was said, without the system's message.
    messages: Vec<Message>,
}

/// Chats until the user has enough. `name` is the model's, as the user gave it.
pub(crate) fn chat(engine: &mut Engine, settings: Settings, name: &str, store: &Store) -> Result<()> {
    let mut editor = Editor::new(store.home())?;
    if !settings.raw && !engine.model().has_chat_template() {
        note!(
            "note: this model has no chat template: it continues each text that you type, and remembers none"
        );
    }
    note!("{name}; /help says what there is, Ctrl-D ends");
    let mut chat = Chat { engine, settings, name, messages: Vec::new() };
    loop {
        match editor.read()? {
            Line::Text(text) if text.trim().is_empty() => {}
            Line::Text(text) => match Command::parse(&text) {
                Some(Ok(Command::Bye)) => return Ok(()),
                Some(Ok(command)) => chat.obey(command)?,
                Some(Err(problem)) => note!("{problem}; /help says what there is"),
                None => chat.say(text)?,
            },
            Line::Dropped => note!("(Ctrl-D or /bye ends)"),
            Line::End => return Ok(()),
        }
    }
}

impl Chat<'_> {
    /// The user's turn, and the model's. Only a lost standard output ends the chat.
    fn say(&mut self, text: String) -> Result<()> {
        let remembers = !self.settings.raw && self.engine.model().has_chat_template();
        let prompt = if remembers {
            self.messages.push(Message::user(text));
            let system = self.settings.system.iter().map(Message::system);
            Prompt::Chat(system.chain(self.messages.iter().cloned()).collect())
        } else {
            Prompt::Text(text)
        };
        match answer(self.engine, prompt, &self.settings, None) {
            Ok(answer) => {
                if answer.reason == FinishReason::Cancelled {
                    note!("(stopped)");
                }
                if remembers {
                    self.messages.push(Message::assistant(answer.text));
                }
            }
            Err(error) => {
                if remembers {
                    self.messages.pop();
                }
                if error.is::<io::Error>() {
                    return Err(error);
                }
                failure::say(&error);
                if !self.messages.is_empty() {
                    note!("(/clear forgets what was said so far)");
                }
            }
        }
        Ok(writeln!(io::stdout())?)
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            // Ends the loop of `chat`.
            Command::Bye => {}
            Command::Help => note_part!("{}", command::HELP),
            Command::Clear => {
                self.messages.clear();
                note!("forgotten");
            }
            Command::System(text) => {
                let said = if text.is_some() {
                    "set, from the next answer on"
                } else {
                    "no system message any more"
                };
                note!("{said}");
                self.settings.system = text;
            }
            Command::Parameter(name, value) => match command::set(&mut self.settings, &name, &value) {
                Ok(()) => note!("{name} is {value}"),
                Err(problem) => note!("{problem}"),
            },
            Command::Verbose(on) => self.settings.verbose = on,
            Command::Show(topic) => self.show(topic)?,
        }
        Ok(())
    }

    fn show(&self, topic: Topic) -> Result<()> {
        let model = self.engine.model();
        let mut out = io::stdout();
        match topic {
            Topic::Info => show::print(model, self.name, None, Some(self.engine.n_ctx()))?,
            Topic::System => writeln!(out, "{}", self.settings.system.as_deref().unwrap_or("(none)"))?,
            Topic::Template => match model.gguf().metadata().opt_str("tokenizer.chat_template")? {
                Some(template) => writeln!(out, "{template}")?,
                None => writeln!(out, "(none)")?,
            },
            Topic::Parameters => {
                for (name, value) in command::parameters(&self.settings) {
                    writeln!(out, "{name:<18} {value}")?;
                }
                let overflow = if self.settings.overflow == Overflow::Shift { "shift" } else { "error" };
                writeln!(out, "{:<18} {}", "ctx", self.engine.n_ctx())?;
                writeln!(out, "{:<18} {overflow}", "overflow")?;
            }
            Topic::History => {
                for message in &self.messages {
                    writeln!(out, "{}: {}\n", message.role, message.text().unwrap_or_default().trim())?;
                }
            }
        }
        Ok(())
    }
}
