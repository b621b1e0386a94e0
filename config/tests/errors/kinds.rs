//! Whose file it is, and what is said when it is nobody's or of two programs.

use config::{CheckerConfig, Config, Configuration, ControllerConfig};

const NODE: &str = super::GOOD;
const CHECKER: &str =
    "[checker]\nid = \"c\"\n[controller]\nendpoints = [\"http://127.0.0.1:9190\"]\n";
const CONTROLLER: &str = "[controller]\nname = \"c\"\n";

#[track_caller]
fn refused(text: &str) -> String {
    Configuration::parse(text, "f").expect_err("no file of one program").to_string()
}

#[test]
fn sections_tell_whose_file_it_is() {
    let kind = |text: &str| {
        let loaded = Configuration::parse(text, "f");
        loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}")).config
    };
    assert!(matches!(kind(NODE), Configuration::Node(_)));
    let fed = "[[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [\"192.0.2.2/24\"]\n\
               [controller]\nendpoints = [\"http://127.0.0.1:9190\"]\n";
    assert!(matches!(kind(fed), Configuration::Node(_)));
    assert!(matches!(kind(CHECKER), Configuration::Checker(_)));
    for text in [CONTROLLER, "[controller]\n", "[registry]\n", "[fleet]\n[controller]\n"] {
        assert!(matches!(kind(text), Configuration::Controller(_)), "{text}");
    }
}

#[test]
fn a_file_of_nobody_names_what_was_expected() {
    let expected = "(expected [[port]] in the file of a node, [controller] in that of a \
                    controller, [checker] in that of a checker)";
    assert_eq!(refused(""), format!("f:1: has no section {expected}"));
    assert_eq!(
        refused("\n[server]\nport = 1\n"),
        format!("f:2: begins with \"server\" {expected}")
    );
    // It calls a controller; who calls is not said.
    let caller = "[controller]\nendpoints = [\"http://127.0.0.1:9190\"]\n";
    assert_eq!(refused(caller), format!("f:1: begins with \"controller\" {expected}"));
}

#[test]
fn a_file_of_two_programs_names_the_sections_of_each() {
    assert_eq!(
        refused(&format!("[[port]]\nname = \"p\"\n{CHECKER}")),
        "f:3: [checker] belongs into the configuration of a checker, and [[port]] at line 1 \
         makes this that of a node (expected the sections of one of them)"
    );
    assert_eq!(
        refused(&format!("[tls]\n[limits]\n{CHECKER}")),
        "f:1: [tls] belongs into the configuration of a controller, and [checker] at line 3 \
         makes this that of a checker (expected the sections of one of them)\n\
         f:2: [limits] belongs into the configuration of a controller, and [checker] at line 3 \
         makes this that of a checker (expected the sections of one of them)"
    );
}

#[test]
fn each_program_refuses_the_files_of_the_others() {
    let node = Config::parse(CONTROLLER, "f").expect_err("a controller's").to_string();
    assert_eq!(
        node,
        "f:1: [controller] makes this the configuration of a controller (expected that of a node)"
    );
    let controller = ControllerConfig::parse(NODE, "f").expect_err("a node's").to_string();
    assert_eq!(
        controller,
        "f:1: [node] makes this the configuration of a node (expected that of a controller)"
    );
    let checker = CheckerConfig::parse("[registry]\n", "f").expect_err("a controller's");
    assert_eq!(
        checker.to_string(),
        "f:1: [registry] makes this the configuration of a controller (expected that of a checker)"
    );
    let controller = ControllerConfig::parse(CHECKER, "f").expect_err("a checker's").to_string();
    assert!(controller.ends_with("(expected that of a controller)"), "{controller}");
}
