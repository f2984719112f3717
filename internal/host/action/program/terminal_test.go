package program

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// withCredentials gives the program a terminal and a file with answers.
func (r *rig) withCredentials(text string) {
	r.t.Helper()
	r.spec.Terminal, r.spec.Credentials = true, filepath.Join(r.tmp, "credentials")
	if err := os.WriteFile(r.spec.Credentials, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// upgrade asks as the scripts do for which this was made.
const upgrade = `
[ -t 0 ] && [ -t 1 ] || exit 9
echo "Please choose whether you need to use ctbackup for backup."
echo "1. stop upgrade and do ctbackup."
read -p "What's your choice, please input [1|2|3]: " choice
echo "choice <$choice>"
read -s -p "Please input cantian sys pwd:" pwd; echo
[ "$pwd" = 'S3cret!word' ] && echo "sys pwd accepted: $pwd"
echo "array user:"
read user
stty -echo; printf 'array password: '; read apwd; stty echo; echo
echo "[$user] [$apwd]"
echo "[ERROR] try to ping storage array ip 'x', but failed"
printf "Continue upgrade please input yes, otherwise exit:"
read yes
echo "yes <$yes>"; exit 6
`

func TestPromptsAreAnswered(t *testing.T) {
	r := newRig(t, upgrade)
	r.withCredentials(`
secrets: {sys: 'S3cret!word', array: "päss wörd"}
expect:
- {prompt: "What's your choice, please input [1|2|3]:", text: "2"}
- {regexp: '(?i)^please input \w+ sys pwd:$', secret: sys}
- {prompt: "array user:", text: admin}
- {prompt: "array password:", secret: array}
- {prompt: "Continue upgrade please input yes, otherwise exit:", text: "yes"}
`)
	res, out := r.run()
	want := `Please choose whether you need to use ctbackup for backup.
1. stop upgrade and do ctbackup.
What's your choice, please input [1|2|3]: 2
choice <2>
Please input cantian sys pwd:
sys pwd accepted: ***
array user:
admin
array password: 
[admin] [***]
[ERROR] try to ping storage array ip 'x', but failed
Continue upgrade please input yes, otherwise exit:yes
yes <yes>
`
	if res.State != Failed || res.Exit != 6 || out != want {
		t.Errorf("got %+v, output\n%s", res, out)
	}
	r.noSecret("S3cret!word", "päss wörd")
}

// noSecret looks for secrets in the state directory.
func (r *rig) noSecret(secrets ...string) {
	r.t.Helper()
	files, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range files {
		for _, s := range secrets {
			if strings.Contains(r.file("state/"+f.Name()), s) {
				r.t.Errorf("%s has the secret %q", f.Name(), s)
			}
		}
	}
}

func TestASecretThatIsEchoedIsNotShown(t *testing.T) {
	need.Seconds(t)
	r := newRig(t, `read -p "password: " x; printf '%s' "${x:0:4}"; sleep 0.2; printf '%s\n' "${x:4}"; echo ${#x}; exit 2`)
	r.withCredentials(`{"secrets": {"p": "topsecret"}, "expect": [{"prompt": "password:", "secret": "p"}]}`)
	if res, out := r.run(); res.Exit != 2 || out != "password: ***\n***\n9\n" {
		t.Errorf("got %+v, output %q", res, out)
	}
}

func TestUnknownPrompt(t *testing.T) {
	for name, c := range map[string]struct{ script, credentials, why string }{
		"no answer":    {`printf "Really? "; read x`, `silence: 300ms`, `was not given in advance: "Really?"`},
		"line end":     {`echo "Your name, please"; read x`, `silence: 300ms`, `was not given in advance: "Your name, please"`},
		"by a child":   {`bash -c 'read -p "Deep? "'`, `silence: 300ms`, `was not given in advance: "Deep?"`},
		"nothing said": {`read x`, `silence: 300ms`, `was not given in advance: ""`},
		"asked again": {`for i in 1 2 3; do read -s -p "pwd: " x; echo; done`,
			`{secrets: {a: guess}, expect: [{prompt: "pwd:", secret: a}]}`, `answered already: "pwd:"`},
		"shows secrets": {`read -p "a guess, or? "`, `{secrets: {a: guess}, silence: 300ms}`, `in advance: "a ***, or?"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.script)
			r.withCredentials(c.credentials)
			res, _ := r.run()
			if res.State != Failed || !strings.Contains(res.Why, c.why) {
				t.Errorf("got %+v", res)
			}
		})
	}
}

func TestSilenceWithoutAQuestionIsNoPrompt(t *testing.T) {
	for name, script := range map[string]string{
		"progress": `printf "Copying ..."; sleep 0.7; echo " done"`,
		"line":     `echo "this takes long"; sleep 0.7`,
		"nothing":  `sleep 0.7`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, script)
			r.withCredentials(`silence: 200ms`)
			if res, _ := r.run(); !res.OK() {
				t.Errorf("got %+v", res)
			}
		})
	}
}

// TestAPromptOnItsWay: a program that waits for input is answered when its prompt arrives just after the first look.
func TestAPromptOnItsWay(t *testing.T) {
	now := time.Now()
	e, err := newExpecter(&Credentials{Silence: Seconds(time.Second),
		Expect: []Expect{{Prompt: "Deep?", Answer: Answer{Text: "yes"}}}}, false, now)
	if err != nil {
		t.Fatal(err)
	}
	waits := terminal{
		echo:  func() (bool, error) { return true, nil },
		reads: func(bool) (bool, bool) { return true, true },
	}
	now = now.Add(time.Second)
	if typed, fail, err := e.next(waits, now); typed != "" || fail != "" || err != nil {
		t.Errorf("before the prompt: %q, %q, %v", typed, fail, err)
	}
	e.feed([]byte("Deep? "), now)
	if typed, fail, err := e.next(waits, now.Add(settle)); typed != "yes\n" || fail != "" || err != nil {
		t.Errorf("with the prompt: %q, %q, %v", typed, fail, err)
	}
}

func TestTimesAndRepeatedPrompts(t *testing.T) {
	r := newRig(t, `for i in 1 2 3; do read -p "node $i? " x; echo "<$x>"; done`)
	r.withCredentials(`expect: [{regexp: '^node \d\?$', text: ok, times: 3}]`)
	if res, out := r.run(); !res.OK() || strings.Count(out, "<ok>") != 3 {
		t.Errorf("got %+v, output %q", res, out)
	}
}

func TestDeadlineOnATerminal(t *testing.T) {
	r := newRig(t, "trap '' HUP TERM; setsid bash -c 'trap \"\" HUP TERM; sleep 60' & sleep 61; sleep 62")
	r.withCredentials(`{}`)
	r.spec.Timeout = 300 * time.Millisecond
	if res, _ := r.run(); res.State != Failed || !strings.HasPrefix(res.Why, "it did not end within") {
		t.Errorf("got %+v", res)
	}
}

func TestStandardInput(t *testing.T) {
	r := newRig(t, `read a; read b; read c || echo "no more"; echo "$a $b"`)
	r.withCredentials(`{secrets: {p: hidden}, stdin: [{text: first}, {secret: p}]}`)
	r.spec.Terminal = false
	if res, out := r.run(); !res.OK() || out != "no more\nfirst ***\n" {
		t.Errorf("got %+v, output %q", res, out)
	}
	r.noSecret("hidden")
}

// fakeSudo records how it was called and asks as the real one does.
func (r *rig) fakeSudo(script string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.tmp, "sudo"), []byte("#!/bin/bash\nprintf '%s\\n' \"$*\" > $T/asked\n"+script), 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.spec.Env[0] = "PATH=" + r.tmp + ":/usr/bin:/bin"
	r.spec.Sudo = true
}

func TestSudo(t *testing.T) {
	r := newRig(t, "echo as root")
	r.fakeSudo(`shift 2; exec "$@"`)
	res, out := r.run()
	if !res.OK() || out != "as root\n" || r.file("asked") != "-n -- "+r.spec.Argv[0]+"\n" {
		t.Errorf("got %+v, output %q, asked %q", res, out, r.file("asked"))
	}
	r = newRig(t, "echo as root")
	r.fakeSudo(`read -s -p "$2" p; echo; shift 3; [ "$p" = letmein ] && exec "$@"`)
	r.withCredentials(`secrets: {sudo: letmein}`)
	res, out = r.run()
	if !res.OK() || out != sudoPrompt+"\nas root\n" || !strings.HasPrefix(r.file("asked"), "-p "+sudoPrompt+" -- ") {
		t.Errorf("got %+v, output %q, asked %q", res, out, r.file("asked"))
	}
	r = newRig(t, "echo as root")
	r.spec.Sudo, r.spec.Env[0] = true, "PATH="+r.tmp
	if res, _ := r.run(); res.State != Failed || !strings.Contains(res.Why, "the program sudo is not installed") {
		t.Errorf("got %+v", res)
	}
}

func TestCredentialsFile(t *testing.T) {
	const secret = "hunter2"
	for want, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"":                              {"secrets: {a: hunter2}\nexpect: [{prompt: x, secret: a}]\nsilence: 5s", 0o600},
		"others may use it (mode 0640)": {"{}", 0o640},
		"others may use it (mode 0604)": {"{}", 0o604},
		"secret \"a\": want":            {"secrets: {a: \"hunter2\\n\"}", 0o600},
		"either a text or the name":     {"secrets: {a: hunter2}\nexpect: [{prompt: x, secret: b}]", 0o600},
		"either a prompt or a regexp":   {"secrets: {a: hunter2}\nexpect: [{secret: a}]", 0o600},
		"error parsing regexp":          {"expect: [{regexp: '[', text: a}]", 0o600},
		"no control characters in an":   {"stdin: [{text: \"a\\u0004\"}]", 0o600},
		"c:1:14: want YAML or JSON":     {"secrets: {a: [hunter2]}", 0o600},
		"c:2:1: want YAML or JSON":      {"silence: 5s\nhunter2: 1", 0o600},
		"c:1:10: want YAML or JSON":     {"stdin: [{a: hunter2, hunter2: b}]", 0o600},
		"c:1:21: want YAML or JSON":     {"secrets: {a: *hunter2}", 0o600},
		"c:1:15: want YAML or JSON":     {"secrets: {ab: 007}", 0o600},
	} {
		file := filepath.Join(t.TempDir(), "c")
		if err := errors.Join(os.WriteFile(file, []byte(c.text), c.mode), os.Chmod(file, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := ReadCredentials(file)
		if (err == nil) != (want == "") || err != nil &&
			(!errors.Is(err, ErrSecrets) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret)) {
			t.Errorf("want %q, got %v", want, err)
		}
		if want == "" {
			link := file + "l"
			if err := os.Symlink(file, link); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadCredentials(link); !errors.Is(err, ErrSecrets) {
				t.Errorf("a link: %v", err)
			}
		}
	}
	r := newRig(t, "echo ran")
	r.withCredentials("{}")
	if err := os.Chmod(r.spec.Credentials, 0o644); err != nil {
		t.Fatal(err)
	}
	if res, out := r.run(); res.State != Failed || out != "" || !strings.Contains(res.Why, "want 0600") {
		t.Errorf("got %+v, output %q", res, out)
	}
}

func TestRedactor(t *testing.T) {
	c := &Credentials{Secrets: map[string]string{"a": "aab", "b": "secret", "c": "secretary"}}
	const text = "a aab aaab my secret is the secretary of secretaries, aa secre"
	const want = "a *** a*** my *** is the *** of ***aries, aa ***"
	for size := 1; size <= len(text); size++ {
		r := newRedactor(c)
		var out []byte
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			out = append(out, r.pass([]byte(rest[:n]))...)
			rest = rest[n:]
		}
		if got := string(append(out, r.rest()...)); got != want {
			t.Errorf("pieces of %d: %q", size, got)
		}
	}
}
