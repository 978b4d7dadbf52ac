// Package crash holds the tests that kill and stop processes at every labelled step of the protocol. They need the build tag testpoint:
//
//	go test -tags testpoint ./tests/crash
package crash
