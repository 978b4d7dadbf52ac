// Package process holds no code, only tests of what unrelated processes see of a ring together: sums, exactly-once, order, every backing and every way
// to send and receive, system calls, allocations and idle costs.
package process
