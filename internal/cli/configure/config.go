// Package configure has the commands of the cluster's configuration: samples, checks, and what is in force.
package configure

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// Command has the commands of the configuration.
func Command(a *command.App) *cobra.Command {
	return command.Group("config", "Show, check or change the configuration of the cluster", sampleCmd(a),
		checkCmd(a), exportCmd(a), importCmd(a), historyCmd(a), diffCmd(a))
}

func sampleCmd(a *command.App) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "sample " + config.FileConf + "|" + config.CephConf,
		Short: "Write a sample configuration, to stdout or to a new file",
		Long: `Writes a configuration to start from: FileConf for an image in a shared
directory, CephConf for one on Ceph RBD. Its MAC addresses are random.`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{config.FileConf, config.CephConf},
		RunE: func(_ *cobra.Command, args []string) error {
			if k := args[0]; k != config.FileConf && k != config.CephConf {
				return fail.Errorf(fail.Invalid, "sample of kind %q: want %s or %s", k, config.FileConf, config.CephConf)
			}
			text, err := config.Sample(args[0], rand.Reader)
			if err != nil {
				return fmt.Errorf("make a sample: %w", err)
			}
			if file == "" {
				return output.File(a.Env.Stdout, string(text))
			}
			return command.WriteNew(file, text)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to this `file`, which must not exist yet")
	return cmd
}

// checked is the result of a check for programs.
type checked struct {
	File     string        `json:"file"`
	Pass     bool          `json:"pass"`
	Faults   []checkedItem `json:"faults"`
	Warnings []checkedItem `json:"warnings"`
}

// checkedItem is a fault (Value, Want) or a warning (Text).
type checkedItem struct {
	Path  string `json:"path"`
	Value string `json:"value,omitempty"`
	Want  string `json:"want,omitempty"`
	Text  string `json:"text,omitempty"`
}

func checkCmd(a *command.App) *cobra.Command {
	var undersized bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file",
		Long: `Checks a configuration file; - reads it from stdin. Every error is shown, one
line each: file, field, value, and what is allowed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			name, data, err := a.ReadConfig(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, faults, warnings := config.Parse(name, data, config.Options{AllowUndersized: undersized, ReadFile: config.ReadFile})
			if js {
				err = output.JSON(a.Env.Stdout, checkResult(name, faults, warnings), false)
			} else {
				err = a.WriteCheck(faults, warnings)
			}
			if err == nil && len(faults) > 0 {
				return fail.Errorf(fail.Invalid, "") // all is said
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below 8 GB and\n4 CPUs")
	return cmd
}

func checkResult(name string, faults []config.Fault, warnings []config.Warning) checked {
	r := checked{File: name, Pass: len(faults) == 0, Faults: []checkedItem{}, Warnings: []checkedItem{}}
	for _, f := range faults {
		r.Faults = append(r.Faults, checkedItem{Path: f.Where(), Value: f.Value, Want: f.Want})
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, checkedItem{Path: w.Where(), Text: w.Text})
	}
	return r
}
