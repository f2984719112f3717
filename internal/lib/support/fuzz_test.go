package support

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// noDigit is what a hash does not have.
var noDigit = regexp.MustCompile(`[^0-9A-Za-z./]`)

// quote writes a text as JSON has it.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can be encoded
	return strings.TrimSpace(b.String())
}

// escaped writes a text as XML has it.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // to memory
	return b.String()
}

// written are the ways in which a secret of a user is written.
var written = []func(user, secret string) string{
	func(u, s string) string { return u + ":" + s + "@tcp(10.0.0.1:3306)/nova" },
	func(u, s string) string { return u + ":" + s + "@unix(/run/mysqld/mysqld.sock)/" },
	func(u, s string) string {
		return "mysql://" + u + ":" + url.PathEscape(s) + "@10.0.0.1/nova?timeout=3s"
	},
	func(u, s string) string { return "rabbit://" + u + ":" + s + "@10.0.0.1:5672/" },
	func(u, s string) string { return "user=" + u + " password=" + s },
	func(u, s string) string { return "user = " + u + "\npassword = " + s },
	func(u, s string) string { return "user: " + u + "\ndb_passwd: " + s },
	func(u, s string) string { return "- token: " + s },
	func(u, s string) string { return `{"user":` + quote(u) + `,"password":` + quote(s) + `}` },
	func(u, s string) string { return `{"api_key": ` + quote(s) + `, "n": 1}` },
	func(u, s string) string {
		return "{user: " + u + ", secret: '" + strings.ReplaceAll(s, "'", "''") + "'}"
	},
	func(u, s string) string {
		return "<graphics type='vnc' passwd='" + escaped(s) + "' user='" + escaped(u) + "'/>"
	},
	func(u, s string) string { return "<rootPassword>" + escaped(s) + "</rootPassword>" },
	func(u, s string) string { return "<password kind='" + escaped(u) + "'>" + escaped(s) + "</password>" },
	func(u, s string) string { return "ipmitool -U " + u + " --password " + s + " power status" },
	func(u, s string) string { return "tool --password=" + s + " --user=" + u },
	func(u, s string) string {
		return `["tool", "--user", ` + quote(u) + `, "--password", ` + quote(s) + `]`
	},
	func(u, s string) string { return "mysql -u" + u + " -p" + s + " -e 'SELECT 1'" },
	func(u, s string) string { return "ipmitool -U " + u + " -P " + s + " power status" },
	func(u, s string) string { return "user=" + u + " pwd=" + s },
	func(u, s string) string { return "user: " + u + "\ndb_pass: " + s },
	func(u, s string) string { return "sshpass -p " + s + " ssh " + u + "@10.0.0.2" },
	func(u, s string) string { return "zsha install -c /tmp/" + u + " -p " + s },
	func(u, s string) string { return "ms_recovery.sh 10.0.0.2 " + s + " 2" + s },
	func(u, s string) string { return "op:" + s[:4] + " " + s[4:] + "@tcp(10.0.0.1:3306)/nova" },
	func(u, s string) string { return u + " 密码：" + s },
	func(u, s string) string { return `{"admin_pass": ["x` + u + `", ` + quote(s) + `]}` },
	func(u, s string) string { return "snmpget -v3 -u " + u + " -A " + s + " -X 1" + s },
	func(u, s string) string { return "Authorization: Basic " + s },
	func(u, s string) string { return "authorization=Bearer " + s },
	func(u, s string) string { return `{"Authorization": ` + quote("Bearer "+s) + `}` },
	func(u, s string) string { return u + ":$6$salt$" + noDigit.ReplaceAllString(s, ".") + ":19000" },
	func(u, s string) string {
		return "-----BEGIN EC PRIVATE KEY-----\n" + s + "\n-----END EC PRIVATE KEY-----"
	},
}

// around are texts that another stands within.
var around = []func(string) string{
	func(t string) string { return t },
	func(t string) string { return "2026-01-01T10:00:00 h1 holdfast[7]: connect: " + t },
	func(t string) string { return `{"time":"10:00:01","msg":` + quote(t) + `,"host":"h1"}` },
	func(t string) string { return `{"event":` + quote(`{"msg":`+quote(t)+`}`) + `}` },
	func(t string) string { return "<arg value='" + escaped(t) + "'/>" },
	func(t string) string { return "detail: " + t + "\nnext: 1" },
	func(t string) string { return "password=" + t },
	func(t string) string {
		if strings.ContainsAny(t, " \n\"'") { // no password
			return t
		}
		return "u:" + t + "@tcp(h1:3306)/"
	},
}

var gaps = []string{" ", "\n", ", ", "; ", ` "x" `, ": "}

// ends are where a value without quotes ends for everybody, and what shells and hashes do not have.
var ends = regexp.MustCompile(`["'\s][,:;}\])>/=\\"']|[,;&]["'{\[]*[\w.-]+\\*["']?[:=]|</|[\\"']$|^["'\\]`)

// structural is what has a meaning where the other forms have a secret.
var structural = regexp.MustCompile(`[^\w.+*!~^-]`)

// FuzzNoSecretSurvives: secrets of each form beside and within each other, of users who are called like common
// words and known secrets, leave nothing of themselves: neither how they begin nor how they end.
func FuzzNoSecretSurvives(f *testing.F) {
	others := slices.Concat(strings.Split(inLines, "\n"), inBlocks)
	for i := range others {
		f.Add("root", `a/b@c:d#%?`, uint8(len(written)+i), uint8(7*i), uint8(i), uint8(3*i), uint8(5*i))
		f.Add("nova", "", uint8(11*i), uint8(len(written)+i), uint8(3*i), uint8(i), uint8(7*i))
	}
	for i := range written {
		for j := range around {
			f.Add("root", `a/b@c:d#%?`, uint8(i), uint8(i+j), uint8(j), uint8(j), uint8(i))
			f.Add("0", `a/b@c'd#%?`, uint8(i), uint8(i+j), uint8(j), uint8(3), uint8(j))
			word := []string{"password", "tcp", "admin", "h1", "user", "secret", "nova"}[(i+j)%7]
			f.Add(word, "", uint8(i), uint8(i*j), uint8(j), uint8(0), uint8(j))
		}
	}
	const begin, end = "Q7zK", "Z9wK"
	f.Fuzz(func(t *testing.T, user, middle string, one, two, within, behind, gap uint8) {
		secret := begin + middle + end
		if len(secret) > 200 || user == "" || len(user) > 40 || user[0] == '-' || strings.Contains(secret, user) ||
			strings.ContainsAny(user, " \"'\\:/@<>&\n") {
			return
		}
		for _, r := range user + middle {
			if r <= ' ' || r >= 0x7f {
				return
			}
		}
		if ends.MatchString(middle+"x") || ends.MatchString("x"+middle) || strings.ContainsAny(middle, "<>$`") {
			return
		}
		known := secretsOfText(fmt.Sprintf("[client]\nuser = %s\npassword = opensesame\n", user))
		plain := begin + structural.ReplaceAllString(middle, "") + end
		of := func(form, in uint8) string {
			if n := int(form) % (len(written) + len(others)); n < len(written) {
				return around[int(in)%len(around)](written[n](user, secret))
			} else {
				return around[int(in)%len(around)](strings.ReplaceAll(others[n-len(written)], "X", plain))
			}
		}
		text := of(one, within) + gaps[int(gap)%len(gaps)] + of(two, behind)
		for _, r := range []*Redactor{NewRedactor(nil), NewRedactor(known), NewRedactor([]Secret{Secret(user), "tcp", "password"})} {
			if got := string(r.Pass([]byte(text))); strings.Contains(got, begin) || strings.Contains(got, end) {
				t.Errorf("%s\nbecomes %s", text, got)
			}
		}
	})
}
