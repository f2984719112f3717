package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast/internal/cluster"
)

// notifying is the base configuration with receivers.
func notifying(t *testing.T, notifications string) string {
	t.Helper()
	return strings.Replace(fixture(t, "base.json"), "{", `{"Notifications": `+notifications+",", 1)
}

func TestNotifications(t *testing.T) {
	const file = `"Credential": "file:/etc/holdfast/s"`
	one := func(fields string) string { return `{"Receivers": [{"Name": "ops", ` + fields + `}]}` }
	slack := func(fields string) string { return one(`"Service": "slack", ` + file + fields) }
	mail := func(fields string) string { return one(`"Service": "mail", ` + fields) }
	const sent = `"Server": "smtp://mail.example.com", "From": "a@example.com", "To": "b@example.com"`
	const at = "Notifications.Receivers[0]."
	for name, c := range map[string]struct{ text, path, want string }{
		"nobody":    {`{}`, "", ""},
		"a service": {slack(""), "", ""},
		"all fields": {slack(`, "Events": ["takeover"], "Severity": "info", "Quiet": "22:00-07:00", "Zone": "Asia/Shanghai", "Group": "1m", "CA": "/ca.pem"`),
			"", ""},
		"mail":                  {mail(sent + `, "User": "u", ` + file), "", ""},
		"mail without login":    {mail(sent), "", ""},
		"telegram":              {one(`"Service": "telegram", "To": "-1001234", ` + file), "", ""},
		"a channel":             {one(`"Service": "telegram", "To": "@channel", ` + file), "", ""},
		"language":              {`{"Language": "de"}`, "Notifications.Language", "want en or zh"},
		"console":               {`{"Console": "console"}`, "Notifications.Console", "want https://HOST"},
		"console with password": {`{"Console": "https://u:p@h"}`, "Notifications.Console", "want https://HOST"},
		"no name":               {`{"Receivers": [{"Service": "slack", ` + file + `}]}`, at + "Name", "want a name"},
		"a name with a slash": {`{"Receivers": [{"Name": "a/b", "Service": "slack", ` + file + `}]}`,
			at + "Name", "want a name"},
		"a hostile name": {`{"Receivers": [{"Name": "<script>", "Service": "slack", ` + file + `}]}`,
			at + "Name", "want a name"},
		"the same name": {`{"Receivers": [{"Name": "a", "Service": "slack", ` + file + `}, {"Name": "A", "Service": "slack", ` + file + `}]}`,
			"Notifications.Receivers[1].Name", "unique"},
		"no service": {one(file), at + "Service", "want one of mail, webhook, slack"},
		"a secret in the text": {one(`"Service": "slack", "Credential": "https://hooks.slack.com/services/S3CRET"`),
			at + "Credential", "want file:/PATH"},
		"no secret":           {one(`"Service": "wecom"`), at + "Credential", "want file:/PATH"},
		"a server of no mail": {slack(`, "Server": "smtp://x"`), at + "Server", "only with Service mail"},
		"to of no mail":       {slack(`, "To": "x"`), at + "To", "only with Service mail or telegram"},
		"no server": {mail(`"From": "a@example.com", "To": "b@example.com"`),
			at + "Server", "want smtp://HOST"},
		"a password in it": {mail(`"Server": "smtp://u:p@h", "From": "a@example.com", "To": "b@example.com"`),
			at + "Server", "without name and password"},
		"two addresses": {mail(`"Server": "smtp://h", "From": "a@example.com", "To": "b@example.com,c@example.com"`),
			at + "To", "want one address"},
		"a header": {mail(`"Server": "smtp://h", "From": "a@example.com\r\nBcc: x@example.com", "To": "b@example.com"`),
			at + "From", "without control characters"},
		"a password, no user": {mail(sent + ", " + file), at + "Credential", "only with User"},
		"a user, no password": {mail(sent + `, "User": "u"`), at + "Credential", "want file:/PATH"},
		"no chat": {one(`"Service": "telegram", "To": "me", ` + file),
			at + "To", "want the number of a chat"},
		"no such event":    {slack(`, "Events": ["take-over"]`), at + "Events[0]", "want one of access-changed"},
		"no such severity": {slack(`, "Severity": "high"`), at + "Severity", "want info, warning or critical"},
		"no time":          {slack(`, "Quiet": "22-7"`), at + "Quiet", "want HH:MM-HH:MM"},
		"no such time":     {slack(`, "Quiet": "22:00-24:00"`), at + "Quiet", "want HH:MM-HH:MM"},
		"never":            {slack(`, "Quiet": "22:00-22:00"`), at + "Quiet", "two different times"},
		"no zone": {slack(`, "Quiet": "22:00-07:00", "Zone": "../etc/passwd"`),
			at + "Zone", "want a time zone"},
		"a zone of no time": {slack(`, "Zone": "Asia/Shanghai"`), at + "Zone", "only with Quiet"},
		"a relative file":   {slack(`, "CA": "ca.pem"`), at + "CA", "want the absolute path"},
		"a long group":      {slack(`, "Group": "2h"`), at + "Group", "at most 1h"},
	} {
		_, faults, _ := Parse("x.json", []byte(notifying(t, c.text)), Options{})
		switch {
		case c.path == "" && len(faults) == 0:
		case len(faults) != 1 || faults[0].Path != c.path || !strings.Contains(faults[0].Want, c.want):
			t.Errorf("%s: %v, want a fault of %s with %q", name, faults, c.path, c.want)
		case strings.Contains(faults[0].Error(), "S3CRET"):
			t.Errorf("%s: the fault tells the secret: %v", name, faults[0])
		}
	}
}

func TestReceiversAreBounded(t *testing.T) {
	var all []Receiver
	for i := range maxReceivers + 1 {
		all = append(all, Receiver{Name: fmt.Sprint("r", i), Service: Slack, Credential: "file:/s"})
	}
	for n, faults := range map[int]int{maxReceivers: 0, maxReceivers + 1: 1} {
		text, err := json.Marshal(Notifications{Receivers: all[:n]})
		if err != nil {
			t.Fatal(err)
		}
		if _, got, _ := Parse("x.json", []byte(notifying(t, string(text))), Options{}); len(got) != faults {
			t.Errorf("%d receivers: %v", n, got)
		}
	}
}

func TestAChangeOfReceiversCountsAtOnce(t *testing.T) {
	a, faults, _ := Parse("x.json", []byte(fixture(t, "base.json")), Options{})
	wantFaults(t, faults)
	b, faults, _ := Parse("x.json", []byte(notifying(t, `{"Receivers": [{"Name": "ops", "Service": "slack", "Credential": "file:/s"}]}`)), Options{})
	wantFaults(t, faults)
	changes := Diff(a, b)
	if len(changes) == 0 {
		t.Fatal("no change")
	}
	for _, c := range changes {
		if c.Effect != Now {
			t.Errorf("%s: %s", c, c.Effect)
		}
	}
}

// TestTheReceiversOfTheDocumentationAreValid: each example of docs/notifications.md, there is one of each service, and the
// table of severities is that of the program.
func TestTheReceiversOfTheDocumentationAreValid(t *testing.T) {
	data, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, part := range strings.Split(string(data), "```json\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		if !strings.HasPrefix(text, `{"Name"`) {
			continue
		}
		cl, faults, _ := Parse("x.json", []byte(notifying(t, `{"Receivers": [`+text+`]}`)), Options{})
		wantFaults(t, faults)
		seen[cl.Notifications.Receivers[0].Service] = true
	}
	for _, s := range Services {
		if !seen[s] {
			t.Errorf("docs/notifications.md has no example of %s", s)
		}
	}
	for _, s := range cluster.Severities {
		var kinds []string
		for _, k := range cluster.EventKinds() {
			if k.Severity() == s {
				kinds = append(kinds, "`"+string(k)+"`")
			}
		}
		if want := fmt.Sprintf("| `%s` | %s |", s, strings.Join(kinds, ", ")); !strings.Contains(string(data), want) {
			t.Errorf("docs/notifications.md: want the line\n%s", want)
		}
	}
}
