package weak

import "slices"

// Programs are all programs.
func Programs() []*Program {
	return slices.Concat(mpmcPrograms(), waitPrograms(), sessionPrograms(), spscPrograms())
}
