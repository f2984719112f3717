package text

import (
	"fmt"
	"regexp"
	"strings"
)

// foreign are the sentences of libraries that say nothing to those who have not read their
// source, and what they say in plain words. Each %s is a part of the sentence.
var foreign = []phrase{
	{regexp.MustCompile(`rpc error: code = [A-Za-z]+ desc = `), ""},
	{regexp.MustCompile(`(?:context )?deadline[_ ]exceeded:? context deadline exceeded`), "not done in time"},
	{regexp.MustCompile(`canceled:? context canceled`), "interrupted"},
	{regexp.MustCompile(`context deadline exceeded(?: \(Client\.Timeout exceeded while [a-z ]+\))?`), "not done in time"},
	{regexp.MustCompile(`context canceled`), "interrupted"},
	{regexp.MustCompile(`i/o timeout|net/http: request canceled(?: while waiting for connection)?|net/http: TLS handshake timeout`),
		"no answer in time"},
	{regexp.MustCompile(`unexpected EOF|\bEOF\b`), "it ended too early"},
	{regexp.MustCompile(`use of closed network connection|http: server closed idle connection|transport is closing|http2: client connection (?:lost|force closed[^:]*)`), "the connection was closed"},
	{regexp.MustCompile(`keepalive ping failed to receive ACK within timeout`), "the other side does not answer"},
	{regexp.MustCompile(`error reading (?:from server|server preface): (?:(?:read|write) tcp [^ ]+: )?`), "the connection broke: "},
	{regexp.MustCompile(`(?:read|write|dial) tcp [^ ]+->([^ ]+): `), "connection to %s: "},
	{regexp.MustCompile(`driver: bad connection|invalid connection`), "the connection to the database was lost"},
	{regexp.MustCompile(`etcdserver: request timed out(?:, [a-z ]+)?`), "the store did not answer in time"},
	{regexp.MustCompile(`etcdserver: no leader|etcdserver: leader changed`), "the store has no leader just now"},
	{regexp.MustCompile(`etcdserver: mvcc: database space exceeded`), "the store is full, its quota is used up"},
	{regexp.MustCompile(`etcdserver: too many requests`), "the store has too many requests"},
	{regexp.MustCompile(`strconv\.(?:ParseInt|ParseUint|Atoi): parsing ("(?:[^"\\]|\\.)*"): invalid syntax`), "%s is no whole number"},
	{regexp.MustCompile(`strconv\.ParseFloat: parsing ("(?:[^"\\]|\\.)*"): invalid syntax`), "%s is no number"},
	{regexp.MustCompile(`strconv\.ParseBool: parsing ("(?:[^"\\]|\\.)*"): invalid syntax`), "%s is neither true nor false"},
	{regexp.MustCompile(`strconv\.[A-Za-z]+: parsing ("(?:[^"\\]|\\.)*"): value out of range`), "%s is too large"},
	{regexp.MustCompile(`time: (?:invalid duration|missing unit in duration|unknown unit "[^"]*" in duration) ("(?:[^"\\]|\\.)*")`),
		"%s is no duration such as 90s or 5m"},
	{regexp.MustCompile(`parsing time ("(?:[^"\\]|\\.)*") as "[^"]*": cannot parse "[^"]*" as "[^"]*"`),
		"%s is no time such as 2006-01-02T15:04:05Z"},
	{regexp.MustCompile(`fork/exec `), "start "},
	{regexp.MustCompile(`exec: ("[^"]*"): executable file not found in \$PATH`), "the program %s is not installed"},
	{regexp.MustCompile(`(?:json: )?invalid character '(?:[^'\\]|\\.)+' [a-z][^:;]*|unexpected end of JSON input`), "it is not JSON"},
	{regexp.MustCompile(`json: cannot unmarshal ([a-z]+)(?: [-+.0-9eE]+)? into Go struct field [^.:;]*\.([^ :;]+) of type [^:;]*`),
		"a value of JSON has another type than it should have: %s, in field %s"},
	{regexp.MustCompile(`json: cannot unmarshal ([a-z]+)(?: [-+.0-9eE]+)? into Go (?:struct field|value) [^:;]*`),
		"a value of JSON has another type than it should have: %s"},
	{regexp.MustCompile(`ssh: unexpected message type \d+ \(expected [^)]*\)`), "the SSH server answers in a way that is not understood"},
	{regexp.MustCompile(`ssh: handshake failed: ssh: unable to authenticate, attempted methods \[[^\]]*\], no supported methods remain`),
		"the SSH server takes neither key nor password"},
	{regexp.MustCompile(`x509: certificate signed by unknown authority(?: \(possibly because of [^)]*\))?`),
		"the certificate was not signed by an authority that is trusted here"},
	{regexp.MustCompile(`(?:tls: )?first record does not look like a TLS handshake`), "the other side does not speak TLS"},
}

type phrase struct {
	of *regexp.Regexp
	to string
}

// Plain says in plain words what libraries say in their own.
func Plain(s string) string {
	if !strings.Contains(s, " ") && s != "EOF" {
		return s // a name, a state: tables have many
	}
	for _, p := range foreign {
		s = p.of.ReplaceAllStringFunc(s, func(said string) string {
			m := p.of.FindStringSubmatch(said)
			parts := make([]any, 0, len(m))
			for _, part := range m[1:] {
				parts = append(parts, part)
			}
			return fmt.Sprintf(p.to, parts...)
		})
	}
	return s
}

// Alone reports whether a text is nothing but a library's sentence, so that it does not say what
// was being done.
func Alone(s string) bool {
	rest := s
	for _, p := range foreign {
		rest = p.of.ReplaceAllString(rest, "")
	}
	return rest != s && strings.Trim(rest, ": ") == ""
}
