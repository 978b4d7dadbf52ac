package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"
)

// received is one message as recv and peek print it.
type received struct {
	position   uint64
	deliveries int
	payload    []byte
	at         time.Time
}

// printer appends the printed form of a message to b.
type printer func(b []byte, m received) []byte

// printFlags are the flags that choose how messages are printed.
type printFlags struct {
	framingFlags
	format    string
	json, hex bool
}

func (pf *printFlags) register(f *flags) {
	pf.framingFlags.register(f)
	f.text(&pf.format, "f format", "FMT", `print FMT for each message: %p position, %n length, %t time, %s payload, %d deliveries, %%; \n \t`)
	f.toggle(&pf.json, "j json", "one JSON object per line")
	f.toggle(&pf.hex, "hex", "payload in hexadecimal, one line per message")
}

// printer returns what the flags say: framed payload when they say nothing.
func (pf *printFlags) printer(f *flags) (printer, error) {
	fr, err := pf.framing(f)
	if err != nil {
		return nil, err
	}
	formatted := f.given("f") || f.given("format")
	n := 0
	for _, set := range []bool{formatted, pf.json, pf.hex} {
		if set {
			n++
		}
	}
	framed := fr.prefix || fr.whole || string(fr.delim) != "\n"
	if n > 1 || n == 1 && framed {
		return nil, usagef("-f, -j, --hex and the framing flags exclude each other")
	}
	switch {
	case formatted:
		return parseFormat(pf.format)
	case pf.json:
		return printJSON, nil
	case pf.hex:
		return func(b []byte, m received) []byte { return append(hex.AppendEncode(b, m.payload), '\n') }, nil
	}
	return func(b []byte, m received) []byte { return fr.append(b, m.payload) }, nil
}

// parseFormat compiles a format string.
func parseFormat(s string) (printer, error) {
	s, err := parseEscapes(s)
	if err != nil {
		return nil, usagef("-f: %v", err)
	}
	var parts []printer
	literal := ""
	flush := func() {
		if text := literal; text != "" {
			parts = append(parts, func(b []byte, m received) []byte { return append(b, text...) })
			literal = ""
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			literal += s[i : i+1]
			continue
		}
		if i++; i == len(s) {
			return nil, usagef("-f: ends in a single %%")
		}
		if s[i] == '%' {
			literal += "%"
			continue
		}
		part := verbs[s[i]]
		if part == nil {
			return nil, usagef("-f: %%%c is none of %%p %%n %%t %%s %%d %%%%", s[i])
		}
		flush()
		parts = append(parts, part)
	}
	flush()
	return func(b []byte, m received) []byte {
		for _, part := range parts {
			b = part(b, m)
		}
		return b
	}, nil
}

// verbs are the letters of format strings.
var verbs = map[byte]printer{
	'p': func(b []byte, m received) []byte { return strconv.AppendUint(b, m.position, 10) },
	'n': func(b []byte, m received) []byte { return strconv.AppendInt(b, int64(len(m.payload)), 10) },
	't': func(b []byte, m received) []byte { return m.at.UTC().AppendFormat(b, time.RFC3339Nano) },
	's': func(b []byte, m received) []byte { return append(b, m.payload...) },
	'd': func(b []byte, m received) []byte { return strconv.AppendInt(b, int64(m.deliveries), 10) },
}

// jsonMessage is a message in JSON. The payload is text when it is valid UTF-8, and otherwise base64.
type jsonMessage struct {
	Position   uint64  `json:"position"`
	Deliveries int     `json:"deliveries"`
	Length     int     `json:"length"`
	Time       string  `json:"time"`
	TimeNS     int64   `json:"time_ns"`
	Payload    *string `json:"payload,omitempty"`
	PayloadB64 *string `json:"payload_b64,omitempty"`
}

func printJSON(b []byte, m received) []byte {
	j := jsonMessage{Position: m.position, Deliveries: m.deliveries, Length: len(m.payload), Time: stamp(m.at), TimeNS: m.at.UnixNano()}
	if utf8.Valid(m.payload) {
		s := string(m.payload)
		j.Payload = &s
	} else {
		s := base64.StdEncoding.EncodeToString(m.payload)
		j.PayloadB64 = &s
	}
	w := bytes.NewBuffer(b)
	_ = writeJSON(w, j) // strings and numbers always marshal
	return w.Bytes()
}
