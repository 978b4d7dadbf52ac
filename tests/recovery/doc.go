// Package recovery measures how long the living wait for the dead: from the signal, and from the release of the lock, to the next progress.
package recovery
