package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/bundle"
)

func bundleCmd(a *command.App) *cobra.Command {
	return command.Group("bundle", "Build, sign, check and show upgrade bundles",
		bundleBuildCmd(a), bundleKeygenCmd(a), bundleSignCmd(a), bundleVerifyCmd(a), bundleShowCmd(a))
}

func bundleBuildCmd(a *command.App) *cobra.Command {
	var out string
	var by signer
	cmd := &cobra.Command{
		Use:   "build DIR -o FILE",
		Short: "Build a bundle from a directory",
		Long: `Builds a bundle from DIR/manifest.yaml and the files that its modules list. The
name of the new file sets the compression: .hfb zstd, .tgz or .tar.gz gzip, .tar
none. Without --key the bundle is not signed. The same input gives the same
bytes. Every error is shown, one line each.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return command.Usage(cmd,
					errors.New("no -o FILE given; want the path of the bundle that is built, ending in .hfb, .tgz, .tar.gz or .tar"))
			}
			return buildBundle(cmd.Context(), a, args[0], out, by)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to this `file`, which must not exist yet")
	by.flags(cmd)
	return cmd
}

func buildBundle(ctx context.Context, a *command.App, dir, out string, by signer) error {
	compression, err := bundle.CompressionOf(out)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail.Errorf(fail.Invalid, "build the bundle: %s: want a directory", dir)
	}
	o := bundle.BuildOptions{Compression: compression, Pattern: version.AnyPattern}
	if by.key != "" {
		key, err := secretKey(ctx, a, by)
		if err != nil {
			return err
		}
		o.Key = &key
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return command.NotNew("write the bundle", out, err)
	}
	rep, err := bundle.Build(ctx, dir, f, o)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return bundleError(a, "build the bundle", dir, errors.Join(err, os.Remove(out)))
	}
	return output.Text(a.Env.Stdout, summary(out, rep)+"\n")
}

// bundleError makes bad input of what is wrong in a bundle. The faults of a
// manifest are said one by one.
func bundleError(a *command.App, what, file string, err error) error {
	var r *bundle.Refusal
	if !errors.As(err, &r) {
		if errors.Is(err, context.Canceled) {
			return fail.Errorf(fail.Canceled, "%s: %s: interrupted", what, file)
		}
		return err
	}
	if len(r.Faults) < 2 {
		return fail.Errorf(fail.Invalid, "%s: %s: %w", what, file, r)
	}
	var b strings.Builder
	for _, f := range r.Faults {
		b.WriteString(output.Clean(f.In(filepath.Join(file, r.Member))) + "\n")
	}
	if err := output.Text(a.Env.Stderr, b.String()); err != nil {
		return err
	}
	return fail.Errorf(fail.Invalid, "%s: %s: %s: %d faults", what, file, r.Reason, len(r.Faults))
}

func bundleSignCmd(a *command.App) *cobra.Command {
	var by signer
	cmd := &cobra.Command{
		Use:   "sign FILE --key K",
		Short: "Sign a bundle",
		Long: `Checks a bundle and writes it again with a signature of its manifest, which
replaces an existing one. A package of another layout is not changed; its
signature is written to the new file FILE.minisig.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if by.key == "" {
				return command.Usage(cmd,
					errors.New("no --key given; want the file with the secret key, which holdfast bundle keygen writes"))
			}
			return signBundle(cmd.Context(), a, args[0], by)
		},
	}
	by.flags(cmd)
	return cmd
}

func signBundle(ctx context.Context, a *command.App, file string, by signer) error {
	compression, err := bundle.CompressionOf(file)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	key, err := secretKey(ctx, a, by)
	if err != nil {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return fail.Errorf(fail.Invalid, "sign the bundle: %w", err)
	}
	defer in.Close()
	// What is signed is trusted: a pattern that nobody can read must not be.
	if _, err := bundle.Head(ctx, in, bundle.Options{AllowUnsigned: true, Pattern: version.AnyPattern}); err != nil {
		return bundleError(a, "sign the bundle", file, err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("sign the bundle: %w", err)
	}
	var rep *bundle.Report
	err = durable.Write(file, 0o644, func(f *os.File) (err error) {
		rep, err = bundle.Sign(ctx, in, f, key, compression)
		return err
	})
	switch {
	case err == nil:
		return output.Text(a.Env.Stdout, summary(file, rep)+"\n")
	case errors.Is(err, bundle.ErrForeign):
		return signWhole(ctx, a, in, file, key)
	}
	return bundleError(a, "sign the bundle", file, err)
}

// signWhole signs a package of another layout as a file.
func signWhole(ctx context.Context, a *command.App, in *os.File, file string, key bundle.PrivateKey) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("sign the package: %w", err)
	}
	sig, err := bundle.SignWhole(ctx, in, key)
	if err != nil {
		return err
	}
	if err := writeSecure("signature", file+".minisig", sig, 0o644); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, output.Clean(file)+".minisig: the signature over the whole file\n")
}

// checkFlags are the flags of a command that checks signatures.
type checkFlags struct {
	keys      []string
	signature string
	unsigned  bool
}

func (c *checkFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&c.keys, "key", nil, "`file` with a minisign public key that may have signed;\nmay be repeated")
	cmd.Flags().StringVar(&c.signature, "signature", "", "`file` with the signature over a package of another\nlayout")
	cmd.Flags().BoolVar(&c.unsigned, "allow-unsigned", false, "accept a bundle without a signature, or with one that\ncan not be checked")
}

// options reads the keys.
func (c *checkFlags) options() (bundle.Options, error) {
	o := bundle.Options{AllowUnsigned: c.unsigned, Pattern: version.AnyPattern}
	for _, file := range c.keys {
		text, err := command.ReadSmall(file)
		if err != nil {
			return o, fail.Errorf(fail.Invalid, "read the public key: %w", err)
		}
		key, err := bundle.ParsePublicKey(text)
		if err != nil {
			return o, fail.Errorf(fail.Invalid, "%s: %w", file, err)
		}
		o.Keys = append(o.Keys, key)
	}
	if c.signature != "" {
		text, err := command.ReadSmall(c.signature)
		if err != nil {
			return o, fail.Errorf(fail.Invalid, "read the signature: %w", err)
		}
		o.Signature = text
	}
	return o, nil
}

// verified is the result of a check for programs.
type verified struct {
	File    string        `json:"file"`
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Layout  bundle.Layout `json:"layout"`
	Signed  bool          `json:"signed"`
	KeyID   string        `json:"key_id"`
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"`
	OK      bool          `json:"ok"`
	Reason  string        `json:"reason,omitempty"`
}

func bundleVerifyCmd(a *command.App) *cobra.Command {
	var c checkFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check the signature and every byte of a bundle",
		Long: `Reads the whole bundle, and checks its signature, its manifest and all of its
files. If anything is wrong, the command shows the reason and ends with exit
code 2. Without --allow-unsigned a bundle must be signed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o, err := c.options()
			if err != nil {
				return err
			}
			return verifyBundle(cmd.Context(), a, args[0], o, js)
		},
	}
	c.flags(cmd)
	return cmd
}

func verifyBundle(ctx context.Context, a *command.App, file string, o bundle.Options, js bool) error {
	rep, err := readBundle(ctx, a, file, o, bundle.Verify)
	var r *bundle.Refusal
	if js && (err == nil || errors.As(err, &r)) {
		return verifyJSON(a, file, rep, r)
	}
	if err != nil {
		return bundleError(a, "check the bundle", file, err)
	}
	if err := warnUnsigned(a, file, rep); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, summary(file, rep)+": ok\n")
}

func verifyJSON(a *command.App, file string, rep *bundle.Report, r *bundle.Refusal) error {
	v := verified{File: file, OK: r == nil}
	if r != nil {
		v.Reason = r.Error()
	} else {
		v.Name, v.Version, v.Layout = rep.Manifest.Name, rep.Manifest.Version, rep.Layout
		v.Signed, v.KeyID, v.Files, v.Bytes = rep.Signed, rep.KeyID, rep.Files, rep.Bytes
	}
	err := output.JSON(a.Env.Stdout, v, false)
	if err == nil && r != nil {
		return fail.Errorf(fail.Invalid, "") // all is said
	}
	return err
}

func warnUnsigned(a *command.App, file string, rep *bundle.Report) error {
	if rep.Signed {
		return nil
	}
	return output.Text(a.Env.Stderr,
		"warning: "+output.Clean(file)+": no signature was checked, anybody may have made it\n")
}

// readBundle opens a file and reads it with one of bundle's functions.
func readBundle(ctx context.Context, a *command.App, file string, o bundle.Options,
	read func(context.Context, io.Reader, bundle.Options) (*bundle.Report, error)) (*bundle.Report, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fail.Errorf(fail.Invalid, "%s: it is a directory, want a bundle", file)
	}
	return read(ctx, command.Source(ctx, f), o)
}

// summary is a bundle in one line.
func summary(file string, rep *bundle.Report) string {
	text := fmt.Sprintf("%s: %s, %d files, %d bytes", output.Clean(file), output.Clean(rep.String()), rep.Files, rep.Bytes)
	for i := range rep.Manifest.Modules {
		if mod := &rep.Manifest.Modules[i]; mod.FilesOnly() {
			text += ", module " + output.Clean(mod.Name) + " has files only"
		}
	}
	return text
}

func bundleShowCmd(a *command.App) *cobra.Command {
	var c checkFlags
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what is in a bundle",
		Long: `Shows the manifest of a bundle. With --key its signature is checked first. The
files are not checked: see holdfast bundle verify.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o, err := c.options()
			if err != nil {
				return err
			}
			o.AllowUnsigned = o.AllowUnsigned || len(o.Keys) == 0
			rep, err := readBundle(cmd.Context(), a, args[0], o, bundle.Head)
			if err != nil {
				return bundleError(a, "show the bundle", args[0], err)
			}
			if js {
				return output.JSON(a.Env.Stdout,
					bundleView{args[0], rep.Layout, rep.Signed, rep.KeyID, rep.Files, rep.Bytes, rep.Manifest}, false)
			}
			return output.Text(a.Env.Stdout, bundleText(rep, output.PainterFor(a.Env.Stdout)))
		},
	}
	c.flags(cmd)
	return cmd
}

// bundleView is a bundle for programs.
type bundleView struct {
	File     string             `json:"file"`
	Layout   bundle.Layout      `json:"layout"`
	Signed   bool               `json:"signed"`
	KeyID    string             `json:"key_id"`
	Files    int                `json:"files"`
	Bytes    int64              `json:"bytes"`
	Manifest *manifest.Manifest `json:"manifest"`
}
