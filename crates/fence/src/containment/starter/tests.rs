use super::*;

fn job(keeper: &str) -> Job {
    let (arguments, group, env, stdin) = (Vec::new(), None, BTreeMap::new(), Stdio::null());
    let (resource, role, within) = (db(), Role::Start, Duration::from_secs(30));
    Job { resource, role, within, keeper: keeper.into(), arguments, group, env, stdin }
}

fn db() -> Name {
    Name::new("db").unwrap()
}

#[tokio::test]
async fn starts_one_after_the_other() {
    let starter = Starter::start("starter-test").unwrap();
    let (_keep, mut cancel) = oneshot::channel();
    let error = starter.run(job("/nonexistent"), &mut cancel).await.unwrap_err();
    assert!(matches!(error, StartError::Spawn(SpawnError::Missing(_))), "{error}");
    let (contained, given_up) = starter.run(job("/bin/true"), &mut cancel).await.unwrap();
    contained.keeper.ended().await.unwrap();
    assert!(!given_up && starter.under_way(&db()).is_none());
}

/// A thread that hangs is played by one that was not started.
#[tokio::test]
async fn what_was_given_up_before_its_turn_is_not_started_and_leaves_nothing() {
    let starter = Starter { shared: Arc::default() };
    let (give_up, mut cancel) = oneshot::channel();
    drop(give_up);
    let error = starter.run(job("/bin/true"), &mut cancel).await.unwrap_err();
    assert!(matches!(error, StartError::GivenUp), "{error}");
    let (give_up, mut cancel) = oneshot::channel();
    let (error, ()) = tokio::join!(starter.run(job("/bin/true"), &mut cancel), async { drop(give_up) });
    assert!(matches!(error, Err(StartError::GivenUp)), "{error:?}");
    let (_keep, mut cancel) = oneshot::channel();
    let soon = Job { within: Duration::from_millis(1), ..job("/bin/true") };
    let error = starter.run(soon, &mut cancel).await.unwrap_err();
    assert!(matches!(error, StartError::TooLate), "{error}");
    assert!(starter.shared.lock().waiting.is_empty());
}

#[tokio::test]
async fn what_is_given_up_in_the_middle_is_handed_over_all_the_same() {
    let starter = Starter { shared: Arc::default() };
    let (give_up, mut cancel) = oneshot::channel();
    let shared = Arc::clone(&starter.shared);
    let begins = thread::spawn(move || {
        let Waiting { job, runtime, started, .. } = shared.next().unwrap();
        let _runtime = runtime.enter();
        drop(give_up);
        started.send(job.start()).unwrap();
        shared
    });
    let (contained, _) = starter.run(job("/bin/true"), &mut cancel).await.unwrap();
    contained.keeper.ended().await.unwrap();
    let shared = begins.join().unwrap();
    assert_eq!(starter.under_way(&db()), Some(1), "its thread has not said that it is done");
    drop(Gone(&shared));
    assert_eq!(starter.under_way(&db()), None);
    let (_keep, mut cancel) = oneshot::channel();
    assert!(matches!(starter.run(job("/bin/true"), &mut cancel).await, Err(StartError::Gone)));
}
