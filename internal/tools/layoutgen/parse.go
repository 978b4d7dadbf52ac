package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Format is everything the tables of the specification say.
type Format struct {
	Magic     string
	ByteOrder uint64
	Version   uint64
	Tables    []Table
	Values    []Value
}

// Table is one structure.
type Table struct {
	Name   string  `json:"name"`
	Size   int     `json:"size"`
	Fields []Field `json:"fields"`
}

// Field is one row of a structure.
type Field struct {
	Name    string `json:"name"`
	Offset  int    `json:"offset"`
	Size    int    `json:"size"`
	Type    string `json:"type"`
	Writer  string `json:"writer"`
	Initial string `json:"initial"`
	Meaning string `json:"meaning"`
	Since   int    `json:"since"`
}

// Value is one named number.
type Value struct {
	Name    string `json:"name"`
	Value   uint64 `json:"value"`
	Meaning string `json:"meaning,omitempty"`
}

var (
	tableMark  = regexp.MustCompile(`^<!-- table: ([A-Z][A-Za-z0-9]*) size=([0-9]+) -->$`)
	valuesMark = regexp.MustCompile(`^<!-- values: -->$`)
	endMark    = regexp.MustCompile(`^<!-- end -->$`)
	anyMark    = regexp.MustCompile(`^<!-- *(table|values|end)`)
	identifier = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

var (
	tableColumns = []string{"field", "offset", "size", "type", "writer", "initial", "meaning", "since"}
	valueColumns = []string{"name", "value", "meaning"}
)

// Parse reads all tables of the text and refuses what is not a sound layout.
func Parse(text string) (*Format, error) {
	f := new(Format)
	var (
		table   *Table // of the open table
		values  bool   // a values table is open
		columns []string
		rows    int // lines of the open table that begin with |
	)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		fail := func(err error) error { return fmt.Errorf("line %d: %w", i+1, err) }
		open := table != nil || values
		switch {
		case tableMark.MatchString(line) || valuesMark.MatchString(line):
			if open {
				return nil, fail(fmt.Errorf("a table begins before the one above it ended"))
			}
			rows = 0
			if m := tableMark.FindStringSubmatch(line); m != nil {
				size, err := strconv.Atoi(m[2])
				if err != nil {
					return nil, fail(err)
				}
				table, columns = &Table{Name: m[1], Size: size}, tableColumns
			} else {
				values, columns = true, valueColumns
			}
		case endMark.MatchString(line):
			if !open {
				return nil, fail(fmt.Errorf("an end mark without a table"))
			}
			if table != nil {
				f.Tables = append(f.Tables, *table)
			}
			table, values = nil, false
		case anyMark.MatchString(line):
			return nil, fail(fmt.Errorf("mark not understood: %s", line))
		case open && strings.HasPrefix(line, "|"):
			rows++
			cells := splitRow(line)
			if len(cells) != len(columns) {
				return nil, fail(fmt.Errorf("%d columns, want %d: %s", len(cells), len(columns), strings.Join(columns, ", ")))
			}
			switch {
			case rows == 1:
				if !slices.Equal(cells, columns) {
					return nil, fail(fmt.Errorf("columns %q, want %q", cells, columns))
				}
			case rows == 2: // the line of dashes
			case table != nil:
				field, err := parseField(cells)
				if err != nil {
					return nil, fail(err)
				}
				table.Fields = append(table.Fields, field)
			default:
				value, err := strconv.ParseUint(cells[1], 0, 64)
				if err != nil {
					return nil, fail(err)
				}
				f.Values = append(f.Values, Value{Name: cells[0], Value: value, Meaning: cells[2]})
			}
		case open && line != "":
			return nil, fail(fmt.Errorf("text inside a table: %s", line))
		}
	}
	if table != nil || values {
		return nil, fmt.Errorf("the last table has no end mark")
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return f, f.identity()
}

func splitRow(line string) []string {
	cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

func parseField(cells []string) (Field, error) {
	var n [3]int
	for i, c := range []int{1, 2, 7} {
		v, err := strconv.Atoi(cells[c])
		if err != nil || v < 0 {
			return Field{}, fmt.Errorf("field %s: %s %q is not a number", cells[0], tableColumns[c], cells[c])
		}
		n[i] = v
	}
	return Field{Name: cells[0], Offset: n[0], Size: n[1], Type: cells[3], Writer: cells[4], Initial: cells[5], Meaning: cells[6], Since: n[2]}, nil
}

// check refuses fields that overlap, are not aligned, do not fit, or whose size is not that of their type, and
// names that appear twice.
func (f *Format) check() error {
	if len(f.Tables) == 0 || len(f.Values) == 0 {
		return fmt.Errorf("%d tables and %d values found, want both", len(f.Tables), len(f.Values))
	}
	names := map[string]string{}
	once := func(name, what string) error {
		if other, ok := names[name]; ok {
			return fmt.Errorf("%s and %s would both be called %s", other, what, name)
		}
		names[name] = what
		return nil
	}
	for _, t := range f.Tables {
		if err := once(t.Name+"Size", "the size of table "+t.Name); err != nil {
			return err
		}
		fields := slices.Clone(t.Fields)
		slices.SortStableFunc(fields, func(a, b Field) int { return a.Offset - b.Offset })
		end, last := 0, ""
		for _, x := range fields {
			where := t.Name + "." + x.Name
			if !identifier.MatchString(x.Name) {
				return fmt.Errorf("%s: the name is no identifier of lower-case words", where)
			}
			if err := once(t.Name+camel(x.Name), "field "+where); err != nil {
				return err
			}
			align := 1
			switch x.Type {
			case "u32":
				align = 4
			case "u64":
				align = 8
			case "bytes":
			default:
				return fmt.Errorf("%s: type %q, want u32, u64 or bytes", where, x.Type)
			}
			switch {
			case x.Size <= 0 || align > 1 && x.Size != align:
				return fmt.Errorf("%s: %d bytes for type %s", where, x.Size, x.Type)
			case x.Offset%align != 0:
				return fmt.Errorf("%s: offset %d is not a multiple of %d", where, x.Offset, align)
			case x.Offset < end:
				return fmt.Errorf("%s: begins at %d, inside %s which ends at %d", where, x.Offset, last, end)
			case x.Offset+x.Size > t.Size:
				return fmt.Errorf("%s: ends at %d, beyond the %d bytes of the table", where, x.Offset+x.Size, t.Size)
			}
			end, last = x.Offset+x.Size, where
		}
	}
	for _, v := range f.Values {
		if !identifier.MatchString(v.Name) {
			return fmt.Errorf("value %s: the name is no identifier of lower-case words", v.Name)
		}
		if err := once(camel(v.Name), "value "+v.Name); err != nil {
			return err
		}
	}
	return nil
}

// identity reads the constants that say what a segment is from the initial values of the header.
func (f *Format) identity() error {
	initial := func(name string) (string, error) {
		for _, t := range f.Tables {
			for _, x := range t.Fields {
				if t.Name == "Header" && x.Name == name {
					return strings.Trim(x.Initial, "`"), nil
				}
			}
		}
		return "", fmt.Errorf("the table Header has no field %s", name)
	}
	var err error
	if f.Magic, err = initial("magic"); err != nil {
		return err
	}
	if len(f.Magic) != 8 {
		return fmt.Errorf("magic %q has %d bytes, want 8", f.Magic, len(f.Magic))
	}
	for name, to := range map[string]*uint64{"byte_order": &f.ByteOrder, "version": &f.Version} {
		s, err := initial(name)
		if err != nil {
			return err
		}
		if *to, err = strconv.ParseUint(s, 0, 32); err != nil {
			return fmt.Errorf("initial value of %s: %w", name, err)
		}
	}
	return nil
}

// Fingerprint is XXH64 of a canonical text of the layout: names, offsets, sizes, types and values, in the order of
// the document. Meanings are left out, so that a better sentence does not make old segments unreadable.
func (f *Format) Fingerprint() uint64 {
	var b strings.Builder
	for _, t := range f.Tables {
		fmt.Fprintf(&b, "table %s %d\n", t.Name, t.Size)
		for _, x := range t.Fields {
			fmt.Fprintf(&b, "field %s %d %d %s\n", x.Name, x.Offset, x.Size, x.Type)
		}
	}
	for _, v := range f.Values {
		fmt.Fprintf(&b, "value %s %d\n", v.Name, v.Value)
	}
	return xxhash.Sum64String(b.String())
}

// camel turns producer_position into ProducerPosition and sysv_id into SysvID.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words {
		if w == "id" {
			words[i] = "ID"
		} else {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
