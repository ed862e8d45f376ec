//! The committed picture of the lease's safety inequality is the one that the code draws.

#[path = "../../failover/protocols/examples/lease_safety.rs"]
mod drawing;

#[test]
fn the_committed_picture_is_what_the_command_draws() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lease-safety.svg");
    let committed = std::fs::read_to_string(path).expect("it is committed");
    assert!(
        committed == drawing::picture(),
        "draw it anew: cargo run -p firedrill-protocols --example lease_safety > docs/lease-safety.svg"
    );
}

/// The left of the dashed line is beyond the rate bound: red there in every panel, and nowhere else in the sound one.
#[test]
fn the_sound_form_is_green_wherever_its_conditions_hold() {
    let picture = drawing::picture();
    let panels: Vec<&str> = picture.split("</text>\n<rect").collect();
    let sound = panels.iter().find(|panel| panel.contains("fill=\"#8fcf9f\"")).expect("the first panel");
    let red = sound.matches("fill=\"#eb").count();
    let cells = sound.matches("width=\"8\"").count();
    assert!(red > 0 && red * 4 <= cells, "{red} of {cells} cells, all left of the bound");
}
