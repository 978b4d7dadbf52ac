//go:build !race

package ring

// raceDetector says that this build has the race detector.
const raceDetector = false
