//! What must not compile: the gate cannot be walked around.

/// Each file is one attempt, and the compiler's refusal stands beside it.
#[test]
fn the_gate_cannot_be_walked_around() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
