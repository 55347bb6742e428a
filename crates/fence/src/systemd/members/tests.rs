use super::*;

const ROOT: &str = "sitegate-ticket@db.target";

/// A table from lines `unit: relation other other`, both directions of which are put in.
fn table(lines: &str) -> Table {
    let mut table = Table::new();
    for line in lines.trim().lines() {
        let (name, rest) = line.trim().split_once(": ").unwrap();
        let mut words = rest.split(' ');
        let relation = words.next().unwrap();
        for other in words {
            for unit in [name, other] {
                let entry = table.entry(unit.to_owned()).or_default();
                (entry.id, entry.load) = (unit.to_owned(), "loaded".to_owned());
            }
            if relation != "part-of" {
                table.get_mut(name).unwrap().pulls.insert(other.to_owned());
                table.get_mut(other).unwrap().pulled_by.insert(name.to_owned());
            }
            if relation != "wants" {
                table.get_mut(other).unwrap().stops.insert(name.to_owned());
            }
        }
    }
    table
}

fn belong(root: &str, lines: &str) -> Vec<String> {
    let mut all = members(root, &table(lines)).all;
    assert_eq!(all.remove(0), root);
    all.sort();
    all
}

#[test]
fn units_join_the_target_from_either_side() {
    let lines = "sitegate-ticket@db.target: wants mydb.service
                 cache.service: binds-to sitegate-ticket@db.target
                 log.timer: part-of sitegate-ticket@db.target
                 other.service: wants sitegate-ticket@db.target";
    assert_eq!(belong(ROOT, lines), ["cache.service", "log.timer", "mydb.service"]);
}

#[test]
fn what_stops_with_a_member_belongs_however_far() {
    let lines = "sitegate-ticket@db.target: wants mydb.service
                 proxy.service: requires mydb.service
                 web.service: part-of proxy.service";
    assert_eq!(belong(ROOT, lines), ["mydb.service", "proxy.service", "web.service"]);
}

#[test]
fn what_joined_belongs_also_if_it_is_enabled_at_boot() {
    let lines = "sitegate-ticket@db.target: wants mydb.service srv-db.mount
                 multi-user.target: wants mydb.service
                 local-fs.target: wants srv-db.mount";
    assert_eq!(belong(ROOT, lines), ["mydb.service", "srv-db.mount"]);
    let table = table(lines);
    let otherwise = members(ROOT, &table).started_otherwise(&table);
    assert_eq!(
        otherwise,
        [
            ("mydb.service".to_owned(), vec!["multi-user.target".to_owned()]),
            ("srv-db.mount".to_owned(), vec!["local-fs.target".to_owned()])
        ]
    );
}

#[test]
fn what_a_member_wants_belongs_if_nobody_else_wants_it() {
    let lines = "sitegate-ticket@db.target: wants mydb.service
                 mydb.service: wants exporter.service shared.service mydb.socket
                 exporter.service: requires helper.service
                 web.service: wants shared.service";
    assert_eq!(belong(ROOT, lines), ["exporter.service", "helper.service", "mydb.service", "mydb.socket"]);
}

/// Somebody outside that needs what a member wants too makes it shared, and is not drawn in through it.
#[test]
fn what_is_shared_draws_nobody_in() {
    let lines = "sitegate-ticket@db.target: wants mydb.service
                 mydb.service: wants pool.service
                 stranger.service: requires pool.service";
    assert_eq!(belong(ROOT, lines), ["mydb.service"]);
}

#[test]
fn the_machine_itself_never_belongs() {
    let lines = "sitegate-ticket@db.target: wants mydb.service network-online.target
                 mydb.service: requires sysinit.target system.slice -.mount dbus.socket dev-sda.device
                 mydb.service: wants network.target systemd-networkd.service
                 multi-user.target: requires mydb.service
                 multi-user.target: wants sshd.service";
    assert_eq!(belong(ROOT, lines), ["mydb.service"]);
}

/// `PrivateTmp=` and `RequiresMountsFor=` are dependencies on mounts that nobody has written.
#[test]
fn mounts_belong_only_if_they_joined() {
    let lines = "sitegate-ticket@db.target: wants mydb.service
                 mydb.service: requires tmp.mount custom.slice";
    assert_eq!(belong(ROOT, lines), ["mydb.service"]);
}

#[test]
fn a_service_alone_takes_only_its_own_along() {
    let lines = "mydb.service: wants exporter.service shared.service
                 multi-user.target: wants shared.service
                 proxy.service: binds-to mydb.service";
    assert_eq!(belong("mydb.service", lines), ["exporter.service", "proxy.service"]);
}

#[test]
fn targets_that_a_ticket_starts_belong_if_they_are_its_own() {
    let lines = "sitegate-ticket@db.target: wants group.target common.target
                 other.service: wants common.target
                 group.target: wants member.service";
    assert_eq!(belong(ROOT, lines), ["group.target", "member.service"]);
}

#[test]
fn the_table_is_asked_for_what_it_lacks() {
    let mut known = table("sitegate-ticket@db.target: wants mydb.service");
    assert_eq!(members("x.service", &known).unread, BTreeSet::from(["x.service".to_owned()]));
    known.get_mut("mydb.service").unwrap().pulls.extend(["a.service".to_owned(), "basic.target".to_owned()]);
    let found = members(ROOT, &known);
    assert_eq!(found.unread, BTreeSet::from(["a.service".to_owned()]));
    assert_eq!(found.all, [ROOT, "mydb.service"]);
}

#[test]
fn a_unit_is_down_only_with_no_job() {
    let unit = |active: &str, job| Unit { active: active.to_owned(), job, ..Unit::default() };
    for (active, job, down) in [
        ("inactive", 0, true),
        ("failed", 0, true),
        ("inactive", 7, false),
        ("active", 0, false),
        ("activating", 0, false),
        ("deactivating", 0, false),
    ] {
        assert_eq!(unit(active, job).is_down(), down, "{active} {job}");
    }
}
