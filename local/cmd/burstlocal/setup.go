package main

import (
	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/setup"
)

// newSetupCommand installs what the local world needs and this machine lacks.
func newSetupCommand() *cobra.Command {
	var build string
	command := &cobra.Command{
		Use:   "setup",
		Short: "Install what is missing: Slurm's Debian packages and Azurite",
		Long: `Setup looks for Slurm, munge and Azurite. What is missing it installs: the
Debian packages slurmctld, slurmd, slurm-client and munge with apt-get (as root or
with sudo; no service is started), and Azurite with npm into build/tools.
When everything is there it does nothing.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if build == "" {
				var err error
				if build, err = setup.BuildDir("."); err != nil {
					return err
				}
			}
			return setup.Run(command.Context(), build, command.ErrOrStderr())
		},
	}
	command.Flags().StringVar(&build, "build", "", "build directory (default: build in the repository around the current directory)")
	return command
}
