package cli

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
)

// The part of CycloneDX 1.6 that is written.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     bomMetadata  `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	bomMetadata struct {
		Timestamp string    `json:"timestamp,omitempty"` // of the commit
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl"`
		Hashes     []bomHash  `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	bomHash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// SBOM is the command that prints what a program is made of.
func (a *App) SBOM() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:   "sbom [PROGRAM]",
		Short: "print what this program, or another one of attachd, is made of, as CycloneDX",
		Args:  command.AtMostOne("a program of attachd, for any system"),
		RunE: func(_ *cobra.Command, args []string) error {
			program, err := os.Executable()
			if len(args) > 0 {
				program, err = args[0], nil
			}
			if err != nil {
				return err
			}
			info, err := buildinfo.ReadFile(program)
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(program), err)
			}
			sum, err := command.SHA256Of(program)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(a.Out)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			return encoder.Encode(bomOf(info, filepath.Base(program), sum))
		},
	})
}

// bomOf returns the components of a program: Go's standard library and the linked modules.
func bomOf(info *debug.BuildInfo, file, sum string) bom {
	main := moduleOf("application", debug.Module{Path: info.Main.Path, Version: strings.Fields(versionOf(info))[0]})
	main.Hashes = []bomHash{{"SHA-256", sum}}
	main.Properties = []property{{"attachd:file", file}}
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Components: []component{moduleOf("library", debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")})},
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "GOOS", "GOARCH", "vcs.revision":
			main.Properties = append(main.Properties, property{"cdx:golang:build:" + setting.Key, setting.Value})
		case "vcs.time":
			b.Metadata.Timestamp = setting.Value
		}
	}
	for _, m := range info.Deps {
		b.Components = append(b.Components, moduleOf("library", *cmp.Or(m.Replace, m)))
	}
	all := dependency{Ref: main.Ref}
	for _, c := range b.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
		b.Dependencies = append(b.Dependencies, dependency{Ref: c.Ref})
	}
	b.Metadata.Component, b.Dependencies = main, append(b.Dependencies, all)
	return b
}

func moduleOf(kind string, m debug.Module) component {
	purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	c := component{Ref: purl, Type: kind, Name: m.Path, Version: m.Version, PURL: purl}
	if m.Sum != "" {
		c.Properties = []property{{"attachd:go.sum", m.Sum}}
	}
	return c
}
