//! All rules that are to run, by where they come from: rule files, and objects of a cluster. Each may change without the other.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::sync::Notify;

use crate::rule::Rule;
use crate::supervisor::Applied;
use crate::supervisor::Supervisor;

/// The rules by their origin.
#[derive(Debug)]
pub struct Roster {
    supervisor: Arc<Supervisor>,
    rules: Mutex<Origins>,
    files_changed: Notify,
}

#[derive(Debug, Default)]
struct Origins {
    files: Vec<Rule>,
    objects: Vec<Rule>,
}

impl Roster {
    /// Returns a roster without rules.
    pub fn new(supervisor: Arc<Supervisor>) -> Self {
        Self { supervisor, rules: Mutex::default(), files_changed: Notify::new() }
    }

    /// Returns the rules of files.
    pub async fn files(&self) -> Vec<Rule> {
        self.rules.lock().await.files.clone()
    }

    /// Returns whether a rule is an object of a cluster, which all scalers read.
    pub async fn is_object(&self, rule: &str) -> bool {
        self.rules.lock().await.objects.iter().any(|object| object.name == rule)
    }

    /// Puts the rules of files in force.
    pub async fn set_files(&self, files: Vec<Rule>) -> Applied {
        let mut rules = self.rules.lock().await;
        rules.files = files;
        let applied = self.apply(&rules).await;
        self.files_changed.notify_one();
        applied
    }

    /// Waits until the rules of files changed, for the one who holds the objects against them.
    pub async fn files_changed(&self) {
        self.files_changed.notified().await;
    }

    /// Puts the rules of objects in force.
    pub async fn set_objects(&self, objects: Vec<Rule>) -> Applied {
        let mut rules = self.rules.lock().await;
        rules.objects = objects;
        self.apply(&rules).await
    }

    /// A file that comes to claim an object's target or name goes before it; the next look at the objects says so there.
    async fn apply(&self, Origins { files, objects }: &Origins) -> Applied {
        let mut all = files.clone();
        for object in objects {
            let claims = |file: &Rule| {
                file.name == object.name
                    || file.target.exclusive().is_some_and(|target| object.target.exclusive() == Some(target))
            };
            if !files.iter().any(claims) {
                all.push(object.clone());
            }
        }
        self.supervisor.apply(all).await
    }
}
