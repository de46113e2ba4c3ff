package main

import (
	"errors"
	"io/fs"
	"net/url"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// configCommands are `monitor config` and its children.
type configCommands struct{ *Program }

func (p configCommands) command() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show, locate, describe and validate the configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.configShow(false) }}
	var asJSON bool
	show := &cobra.Command{Use: "show", Short: "Print the configuration in force", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.configShow(asJSON) }}
	show.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	path := &cobra.Command{Use: "path", Short: "Print the folders and files that are used", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return p.json(map[string]string{"config": p.folders.configFile(), "models": p.folders.modelsFile(), "cards": p.folders.cardsFile(), "profiles": p.folders.profilesFile(), "prices": p.folders.pricesFile(), "routes": p.folders.routesFile(), "data": p.folders.Data, "cache": p.folders.Cache})
			}
			p.printf("config   %s\nmodels   %s\ncards    %s\nprofiles %s\nprices   %s\nroutes   %s\ndata     %s\ncache    %s\n", p.folders.configFile(), p.folders.modelsFile(), p.folders.cardsFile(), p.folders.profilesFile(), p.folders.pricesFile(), p.folders.routesFile(), p.folders.Data, p.folders.Cache)
			return nil
		}}
	path.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.AddCommand(show, path,
		&cobra.Command{Use: "schema", Short: "Print the JSON schema of the config file", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { _, err := p.Stdout.Write(settingsSchema); return err }},
		&cobra.Command{Use: "validate [FILE]", Short: "Check the config file, your models, cards, profiles, prices and routes", Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return p.configValidate(args) }},
	)
	return c
}

func (p configCommands) configShow(asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	s := p.settings
	if u, err := url.Parse(s.Store.URL); err == nil {
		s.Store.URL = u.Redacted()
	} else {
		s.Store.URL = "(unreadable)"
	}
	b, err := yaml.Marshal(s)
	if err != nil {
		return err
	}
	if asJSON {
		if b, err = yaml.YAMLToJSON(b); err != nil {
			return err
		}
	}
	_, err = p.Stdout.Write(b)
	return err
}

func (p configCommands) configValidate(args []string) error {
	name := p.folders.configFile()
	if len(args) == 1 {
		name = p.path(args[0])
		if _, err := os.Stat(name); err != nil {
			return usage("%w", err)
		}
	}
	if _, err := loadSettings(name); err != nil {
		return err
	}
	if _, err := p.catalogue(); err != nil {
		return err
	}
	if _, err := planCommand(p).profiles(); err != nil {
		return err
	}
	if _, err := p.folders.cards(); err != nil {
		return err
	}
	if _, err := (costCommands(p)).book(); err != nil {
		return err
	}
	if _, err := (analysis(p)).routes(); err != nil {
		return err
	}
	for _, f := range []string{name, p.folders.modelsFile(), p.folders.cardsFile(), p.folders.profilesFile(), p.folders.pricesFile(), p.folders.routesFile()} {
		if _, err := os.Stat(f); errors.Is(err, fs.ErrNotExist) {
			p.printf("%s: not there, the defaults are in force\n", f)
		} else {
			p.printf("%s: good\n", f)
		}
	}
	return nil
}
