//! A chat in the terminal: line editing and history, commands that begin with a slash, answers as they come.
//!
//! Ctrl-C drops the line that is being typed, or stops the answer that is being made; Ctrl-D on an empty line ends.

mod attach;
mod command;
mod complete;
mod editor;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Result;
use whit_engine::{EngineOptions, FinishReason, Grammar, Message, Overflow, Prompt};
use whit_hub::{Extras, Modelfile, Reference, Store};

use crate::answer::answer;
use crate::commands::{list, show};
use crate::session::Session;
use crate::settings::{Settings, overflow};
use crate::{Global, failure, models, units};
use attach::attach;
use command::{Command, Setting, Topic};
use editor::{Editor, Line};

struct Chat<'g> {
    session: Session,
    settings: Settings,
    /// What was said, without the system's message.
    messages: Vec<Message>,
    store: Store,
    global: &'g Global,
    /// What `~` means.
    home: Option<PathBuf>,
}

/// Chats until the user has enough.
pub(crate) fn chat(session: Session, settings: Settings, global: &Global) -> Result<()> {
    let store = models::store(global)?;
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let mut editor = Editor::new(&store, home.clone())?;
    let mut chat = Chat { session, settings, messages: Vec::new(), store, global, home };
    chat.begin()?;
    loop {
        match editor.read()? {
            Line::Text(text) if text.trim().is_empty() => {}
            Line::Text(text) => match Command::parse(&text) {
                Some(Ok(Command::Bye)) => break,
                Some(Ok(Command::Set(Setting::History(on)))) => editor.set_remembers(on),
                Some(Ok(command)) => chat.obey(command)?,
                Some(Err(problem)) => note!("{problem}; /help says what there is"),
                None => chat.say(&text)?,
            },
            Line::Dropped => note!("(Ctrl-D or /bye ends)"),
            Line::End => break,
        }
    }
    // The memory goes back to the system faster than to the allocator.
    std::mem::forget(chat);
    Ok(())
}

impl Chat<'_> {
    /// Says whom one talks to, and what the model brings to the conversation.
    fn begin(&mut self) -> Result<()> {
        if !self.settings.raw && !self.session.engine.model().has_chat_template() {
            note!(
                "note: this model has no chat template: it continues each text that you type, and remembers none"
            );
        }
        note!("{}; /help says what there is, Ctrl-D ends", self.session.name);
        self.messages = self.settings.beginning();
        let mut out = io::stdout();
        for message in &self.messages {
            let text = message.text().unwrap_or_default().trim_end();
            match &*message.role {
                "user" => note!(">>> {text}"),
                "assistant" => writeln!(out, "{text}\n")?,
                _ => {}
            }
        }
        Ok(())
    }

    fn remembers(&self) -> bool {
        !self.settings.raw && self.session.engine.model().has_chat_template()
    }

    /// The user's turn, and the model's. Only a lost standard output ends the chat.
    fn say(&mut self, text: &str) -> Result<()> {
        let attached = match attach(text, self.home.as_deref()) {
            Ok(attached) => attached,
            Err(problem) => {
                failure::say(&anyhow::anyhow!(problem));
                return Ok(());
            }
        };
        for (name, n_bytes) in &attached.files {
            note!("(with {name}, {})", units::bytes(*n_bytes as u64));
        }
        let remembers = self.remembers();
        let prompt = if remembers {
            self.messages.push(Message::user(attached.text));
            let system = self.settings.system().map(Message::system);
            Prompt::Chat(system.into_iter().chain(self.messages.iter().cloned()).collect())
        } else {
            Prompt::Text(attached.text)
        };
        match answer(&mut self.session.engine, prompt, &self.settings, None) {
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
            Command::Help(text) => note_part!("{text}"),
            Command::Clear => {
                self.messages.clear();
                note!("forgotten");
            }
            Command::List => self.tell(list::print(&self.store))?,
            Command::Load(name) => {
                let loaded = self.load(&name);
                self.tell(loaded)?;
            }
            Command::Save(name) => {
                let saved = self.save(&name);
                self.tell(saved)?;
            }
            Command::Set(setting) => self.set(setting),
            Command::Show(topic) => {
                let shown = self.show(topic);
                self.tell(shown)?;
            }
        }
        Ok(())
    }

    /// Says what went wrong. Only a lost standard output ends the chat.
    fn tell(&self, result: Result<()>) -> Result<()> {
        match result {
            Err(error) if error.is::<io::Error>() => Err(error),
            Err(error) => {
                failure::say(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Another model, in a conversation that begins anew, with all that the user has set.
    fn load(&mut self, name: &str) -> Result<()> {
        let found = models::find(self.global, name)?;
        let settings = Settings { of_model: found.extras(), ..self.settings.clone() };
        let n_ctx = settings.parameters()?.n_ctx;
        // A draft model is for one model alone.
        let options = EngineOptions { ctx: None, draft: None, ..self.session.options().clone() };
        let (session, _) = Session::open(found, name, &options, n_ctx)?;
        self.session = session;
        self.settings = settings;
        self.begin()
    }

    /// The model with what is set and what was said, by another name.
    fn save(&self, name: &str) -> Result<()> {
        let reference: Reference = self.session.name.parse()?;
        let (from, _) = self.store.foundation(&reference)?;
        let messages = self.messages.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        self.store.create(name, from, Extras { messages, ..self.settings.extras() })?;
        note!("saved; `whit run {name}` goes on from here");
        Ok(())
    }

    fn set(&mut self, setting: Setting) {
        let said = |text: &str| note!("{text}, from the next answer on");
        match setting {
            Setting::System(text) => {
                said(if text.is_some() { "set" } else { "no system message" });
                self.settings.given.system = Some(text.unwrap_or_default());
            }
            Setting::Parameter(name, value) => {
                if let Err(problem) = self.set_parameter(&name, &value) {
                    note!("{problem}");
                }
            }
            Setting::Format(true) => match Grammar::json() {
                Ok(grammar) => {
                    self.settings.grammar = Some(grammar);
                    note!("answers are JSON from now on; say in your words, too, what is to be in them");
                }
                Err(error) => note!("{error}"),
            },
            Setting::Format(false) => {
                self.settings.grammar = None;
                note!("answers are free text again");
            }
            Setting::Think(think) => {
                let before = std::mem::replace(&mut self.settings.think, think);
                match self.settings.thinking(self.session.engine.model()) {
                    Ok(thinking) if thinking.tags.is_some() && thinking.variables.is_empty() => {
                        note!(
                            "note: this model cannot be told whether to think; --hide-thinking leaves thoughts out"
                        );
                    }
                    Ok(_) => said("set"),
                    Err(error) => {
                        self.settings.think = before;
                        note!("{error}");
                    }
                }
            }
            Setting::Verbose(on) => self.settings.verbose = on,
            Setting::Wrap(on) => self.settings.wrap = on,
            // The editor's.
            Setting::History(_) => {}
        }
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let before = self.settings.given.parameters.clone();
        command::set(&mut self.settings, name, value)?;
        let n_ctx = self.settings.parameters().ok().and_then(|parameters| parameters.n_ctx);
        if let Some(n_ctx) = n_ctx.filter(|&n_ctx| n_ctx != self.session.engine.n_ctx())
            && let Err(error) = self.session.set_context(n_ctx)
        {
            self.settings.given.parameters = before;
            return Err(error.to_string());
        }
        note!("{name} is {value}");
        Ok(())
    }

    fn show(&self, topic: Topic) -> Result<()> {
        let model = self.session.engine.model();
        let manifest = self.session.manifest.as_ref();
        let mut out = io::stdout();
        match topic {
            Topic::Info => {
                show::print(model, &self.session.name, manifest, Some(self.session.engine.n_ctx()))?
            }
            Topic::System => writeln!(out, "{}", self.settings.system().unwrap_or("(none)"))?,
            Topic::Licence => show::print_licence(model, manifest)?,
            Topic::Template => match model.template()? {
                Some(template) => writeln!(out, "{}", template.source())?,
                None => writeln!(out, "(none)")?,
            },
            Topic::Modelfile => {
                let (from, _) = self.store.foundation(&self.session.name.parse()?)?;
                write!(out, "{}", Modelfile::write(&from, &self.settings.extras()))?;
            }
            Topic::Parameters => {
                let parameters = self.settings.parameters()?;
                let shift = overflow(&parameters)? == Overflow::Shift;
                for (name, value) in command::parameters(&parameters, self.session.engine.n_ctx(), shift) {
                    writeln!(out, "{name:<18} {value}")?;
                }
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
