package rules

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestJavaKnowsTheLayout compares the offsets of the Java client, which are written by hand, with the tables of docs/FORMAT.md.
func TestJavaKnowsTheLayout(t *testing.T) {
	var layout struct {
		Fingerprint string
		Tables      []struct {
			Name   string
			Fields []struct {
				Name   string
				Offset int
			}
		}
	}
	if err := json.Unmarshal(read(t, "internal/layout/layout.json"), &layout); err != nil {
		t.Fatal(err)
	}
	source := string(read(t, "bindings/java/src/main/java/io/millrace/Format.java"))
	if !strings.Contains(source, "LAYOUT = "+layout.Fingerprint+"L;") {
		t.Errorf("the Java client has another fingerprint than %s", layout.Fingerprint)
	}
	constants := map[string]int{}
	for _, m := range regexp.MustCompile(`static final (?:int|long) ([A-Z_]+) = (?:CONTROL(?: \+ )?)?(\d*);`).FindAllStringSubmatch(source, -1) {
		constants[m[1]], _ = strconv.Atoi(m[2]) // CONTROL alone is offset 0
	}
	checked := 0
	for _, table := range layout.Tables {
		prefix := map[string]string{"Entry": "ENTRY_", "Control": "", "Participant": ""}[table.Name]
		if table.Name == "Header" {
			continue // read field by field in Header.java, which the golden segments check
		}
		for _, f := range table.Fields {
			have, there := constants[prefix+strings.ToUpper(f.Name)]
			if !there && table.Name == "Entry" && f.Offset == 0 {
				continue // the state word is the entry's address
			}
			if !there || have != f.Offset {
				t.Errorf("%s %s: offset %d, in Java %d", table.Name, f.Name, f.Offset, have)
			}
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("only %d offsets compared", checked)
	}
}
