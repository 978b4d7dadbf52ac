// Package rust holds the tests of the Rust client against the Go one: processes of both languages on one ring, driven by the protocol of
// tests/interop/PEER.md. They are skipped where there is no cargo.
package rust
