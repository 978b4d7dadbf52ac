// Package linearizability checks short concurrent histories of processes that are killed against a queue that knows redelivery and drop.
package linearizability
