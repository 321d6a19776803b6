//! Lending, expiry, eviction and failure, on tiny models and made-up sizes.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use whit_engine::{
    Engine, EngineOptions, Event, FinishReason, Item, Prompt, Request, SamplerConfig, ServiceLimits,
};

use super::*;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const MODELS: [&str; 3] = ["llama-gqa-llama3", "qwen2-gqa7", "qwen2-yarn"];

fn entry(name: &str) -> Entry {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden");
    Entry {
        name: name.to_owned(),
        path: Path::new(folder).join(format!("{name}.gguf")),
        size: 0,
        modified: SystemTime::UNIX_EPOCH,
        digest: String::new(),
        recipe: None,
        parent: None,
    }
}

/// Rooms in which every model takes 100 bytes, and how often one was loaded.
fn rooms(budget: Option<u64>) -> (Arc<Rooms>, Arc<AtomicUsize>) {
    rooms_with(budget, Limits { max_queue: 512, patience: PATIENCE })
}

fn rooms_with(budget: Option<u64>, limits: Limits) -> (Arc<Rooms>, Arc<AtomicUsize>) {
    let n_loads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_loads);
    let loader = Loader {
        estimate: Box::new(|_| Ok(100)),
        load: Box::new(move |entry| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            let path = &entry.path;
            assert!(path.file_stem().unwrap() != "panic", "a loader's panic on purpose");
            let options = EngineOptions { threads: Some(1), ..EngineOptions::default() };
            Service::start(Engine::load(path, &options)?, ServiceLimits::default())
        }),
    };
    (Rooms::new(loader, budget, KeepAlive::For(Duration::from_secs(300)), limits), n_loads)
}

/// Waits for the model, on this thread.
fn lease(rooms: &Arc<Rooms>, entry: &Entry, keep_alive: Option<KeepAlive>) -> Result<Lease, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(rooms.lease(entry, keep_alive))
}

fn names(rooms: &Rooms) -> Vec<String> {
    rooms.loaded().into_iter().map(|loaded| loaded.entry.name).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn lease_error(rooms: &Arc<Rooms>, name: &str) -> LoadError {
    lease(rooms, &entry(name), None).err().unwrap()
}

#[test]
fn concurrent_requesters_share_one_load() {
    let (rooms, n_loads) = rooms(None);
    std::thread::scope(|scope| {
        for i in 0..12 {
            let rooms = &rooms;
            scope.spawn(move || {
                let lease = lease(rooms, &entry(MODELS[i % 2]), None).unwrap();
                assert_eq!(lease.service.model().path(), entry(MODELS[i % 2]).path);
            });
        }
    });
    assert_eq!(n_loads.load(Ordering::SeqCst), 2);
    assert_eq!(names(&rooms), MODELS[..2]);
    assert!(rooms.lease_loaded(&entry(MODELS[0]), None).is_some());
    assert!(rooms.lease_loaded(&entry(MODELS[2]), None).is_none());
    rooms.shutdown();
}

/// Everybody who waits is told, and the next one may try again.
#[test]
fn failures_are_told_to_all() {
    let (rooms, n_loads) = rooms(None);
    for name in ["missing", "panic"] {
        n_loads.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert!(matches!(lease_error(&rooms, name), LoadError::Engine(_)));
                });
            }
        });
        assert!(n_loads.load(Ordering::SeqCst) < 8, "{name}: loads are shared");
        assert!(matches!(lease_error(&rooms, name), LoadError::Engine(_)));
        assert!(names(&rooms).is_empty());
    }
    assert!(lease(&rooms, &entry(MODELS[0]), None).is_ok());
    rooms.shutdown();
}

#[test]
fn idle_models_expire() {
    let (rooms, _) = rooms(None);
    let [zero, short, forever] = MODELS.map(entry);
    let soon = KeepAlive::For(Duration::from_millis(30));
    let leases = [
        lease(&rooms, &zero, Some(KeepAlive::For(Duration::ZERO))).unwrap(),
        lease(&rooms, &short, Some(soon)).unwrap(),
        lease(&rooms, &forever, Some(KeepAlive::Forever)).unwrap(),
    ];
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(names(&rooms).len(), 3, "what is in use stays");
    drop(leases);
    until("two must go", || names(&rooms) == [forever.name.as_str()]);
    assert!(rooms.loaded()[0].expires.is_none());

    // The last request decides; without a word of its own, the default.
    drop(lease(&rooms, &forever, None).unwrap());
    let left = rooms.loaded()[0].expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(290)..=Duration::from_secs(300)).contains(&left), "{left:?}");
    drop(lease(&rooms, &forever, Some(soon)).unwrap());
    until("it must go now", || names(&rooms).is_empty());
    rooms.shutdown();
}

#[test]
fn unloading_waits_for_users_and_loading_again_for_unloading() {
    let (rooms, n_loads) = rooms(Some(100));
    let model = entry(MODELS[0]);
    assert!(!rooms.unload(&model));
    let lent = lease(&rooms, &model, None).unwrap();
    assert!(rooms.unload(&model));
    assert_eq!(names(&rooms), [model.name.as_str()], "in use");
    drop(lent);
    until("it must go", || names(&rooms).is_empty());
    for n in 2..6 {
        drop(lease(&rooms, &model, None).unwrap());
        assert_eq!(n_loads.load(Ordering::SeqCst), n);
        assert!(rooms.unload(&model));
        assert!(names(&rooms).is_empty(), "an idle one is gone at once");
    }
    rooms.shutdown();
}

#[test]
fn idle_models_make_room() {
    let limits = Limits { max_queue: 512, patience: Duration::from_millis(50) };
    let (rooms, _) = rooms_with(Some(250), limits);
    let [a, b, c] = MODELS.map(entry);
    drop(lease(&rooms, &a, None).unwrap());
    drop(lease(&rooms, &b, Some(KeepAlive::Forever)).unwrap());
    drop(lease(&rooms, &a, None).unwrap());
    let third = lease(&rooms, &c, None).unwrap();
    assert_eq!(names(&rooms), [a.name.as_str(), c.name.as_str()], "the one used longest ago goes");
    let first = lease(&rooms, &a, None).unwrap();
    let error = lease_error(&rooms, &b.name);
    assert!(matches!(error, LoadError::NoRoom { needed: 100, in_use: 200, budget: 250, .. }), "{error:?}");
    assert!(error.to_string().contains("the models in use were not done"), "{error}");
    assert_eq!(names(&rooms).len(), 2, "what is in use stays");
    drop(third);
    let second = lease(&rooms, &b, None).unwrap();
    assert_eq!(names(&rooms), [a.name.as_str(), b.name.as_str()]);
    drop((first, second));
    rooms.shutdown();

    let (small, _) = self::rooms(Some(99));
    let error = lease_error(&small, &a.name);
    assert!(matches!(error, LoadError::TooLarge { needed: 100, budget: 99 }), "{error:?}");
    small.shutdown();
}

/// Three models in turn through room for one, from several threads: everybody gets an answer, and the bytes add up.
#[test]
fn a_crowd_at_one_room() {
    let (rooms, _) = rooms(Some(100));
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let rooms = &rooms;
            scope.spawn(move || {
                for i in 0..6usize {
                    let lent = lease(rooms, &entry(MODELS[(thread + i) % 3]), None).unwrap();
                    assert_eq!(
                        names(rooms),
                        [lent.service.model().path().file_stem().unwrap().to_str().unwrap()]
                    );
                }
            });
        }
    });
    rooms.shutdown();
}

/// Who asks for a model that is loaded does not overtake who waits for its room, nor the other way round.
#[test]
fn the_line_is_in_order() {
    let (rooms, n_loads) = rooms(Some(100));
    let [a, b, _] = MODELS.map(entry);
    let order = Mutex::new(Vec::new());
    let running = lease(&rooms, &a, None).unwrap();
    std::thread::scope(|scope| {
        let wait_for = |entry: &Entry| {
            let n = rooms.lock().n_wishes;
            let (rooms, order, entry) = (&rooms, &order, entry.clone());
            scope.spawn(move || {
                let _lent = lease(rooms, &entry, None).unwrap();
                order.lock().unwrap().push(entry.name);
            });
            until("it must wait", || rooms.lock().n_wishes == n + 1);
        };
        wait_for(&b);
        until("a is held", || rooms.lock().slots[&a.path].is_held);
        assert!(rooms.lease_loaded(&a, None).is_none());
        wait_for(&a);
        wait_for(&b);
        drop(running);
    });
    assert_eq!(*order.lock().unwrap(), [&*b.name, &*b.name, &*a.name]);
    assert_eq!(n_loads.load(Ordering::SeqCst), 3);
    rooms.shutdown();
}

#[test]
fn who_gives_up_leaves_the_line() {
    let (rooms, n_loads) = rooms_with(Some(100), Limits { max_queue: 1, patience: PATIENCE });
    let [a, b, c] = MODELS.map(entry);
    let running = lease(&rooms, &a, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let waits = rooms.lease(&b, None);
        let gives_up = tokio::time::timeout(Duration::from_millis(100), waits);
        let (waited, refused) = tokio::join!(gives_up, rooms.lease(&c, None));
        assert!(waited.is_err());
        assert!(matches!(refused, Err(LoadError::Busy)), "one waits, and no more may");
    });
    until("a must be free again", || rooms.lease_loaded(&a, None).is_some());
    until("b must be out of line", || rooms.lock().slots.len() == 1);
    assert_eq!((rooms.lock().n_wishes, n_loads.load(Ordering::SeqCst)), (0, 1));
    drop(running);
    rooms.shutdown();
}

#[test]
fn shutting_down_ends_what_runs() {
    let (rooms, _) = rooms(None);
    let lent = lease(&rooms, &entry(MODELS[0]), None).unwrap();
    let (sender, receiver) = channel::<Item>();
    let request = Request {
        sampling: SamplerConfig::greedy(),
        ignore_eos: true,
        overflow: whit_engine::Overflow::Shift,
        ..Request::new(Prompt::Tokens(vec![3, 4, 5]))
    };
    lent.service.submit(request, Box::new(move |item| sender.send(item).is_ok())).unwrap();
    assert!(matches!(receiver.recv_timeout(PATIENCE), Ok(Ok(Event::Token { .. }))));
    rooms.shutdown();
    let last = receiver.iter().last().unwrap().unwrap();
    assert!(matches!(last, Event::Done(done) if done.reason == FinishReason::Cancelled));
    assert!(rooms.loaded().is_empty());
    assert!(matches!(lease_error(&rooms, MODELS[1]), LoadError::Stopping));
    drop(lent);
    rooms.shutdown();
}
