# The package, a development shell and the NixOS module `services.vzd`.
{
  description = "vzd: declarative, OpenVZ-like system containers on a stock Linux kernel";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      # The seccomp filter and the guest programs exist for this architecture.
      systems = [ "x86_64-linux" ];
      forEach = function: nixpkgs.lib.genAttrs systems (system: function nixpkgs.legacyPackages.${system});
      cargo = builtins.fromTOML (builtins.readFile ./Cargo.toml);
    in
    {
      packages = forEach (pkgs: rec {
        default = vzd;
        vzd = pkgs.rustPlatform.buildRustPackage {
          pname = "vzd";
          version = cargo.workspace.package.version;
          src = pkgs.lib.cleanSource ./.;
          cargoLock.lockFile = ./Cargo.lock;
          # Only the product: the other crates are its tests and tools.
          cargoBuildFlags = [ "--package" "vzd" ];
          cargoTestFlags = [ "--package" "vzd-schema" "--package" "vzd-state" ];
          nativeBuildInputs = [ pkgs.pkg-config pkgs.installShellFiles ];
          postInstall = ''
            install -Dm644 packaging/systemd/vzd.service $out/lib/systemd/system/vzd.service
            substituteInPlace $out/lib/systemd/system/vzd.service \
              --replace-fail /usr/bin/vzd $out/bin/vzd \
              --replace-fail /bin/kill ${pkgs.coreutils}/bin/kill
            install -Dm644 packaging/systemd/vzd-ves.service $out/lib/systemd/system/vzd-ves.service
            substituteInPlace $out/lib/systemd/system/vzd-ves.service \
              --replace-fail /usr/bin/vzd $out/bin/vzd \
              --replace-fail /bin/true ${pkgs.coreutils}/bin/true
            installShellCompletion --cmd vzd \
              --bash <($out/bin/vzd completions bash) \
              --fish <($out/bin/vzd completions fish) \
              --zsh <($out/bin/vzd completions zsh)
          '';
          meta = {
            description = "Declarative, OpenVZ-like system containers on a stock Linux kernel";
            license = pkgs.lib.licenses.asl20;
            mainProgram = "vzd";
            platforms = systems;
          };
        };
      });

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.vzd ];
          # As `cargo xtask setup` installs on Debian; it installs nothing where VZD_NO_SETUP is set.
          packages = with pkgs; [
            clippy
            rustfmt
            rust-analyzer
            cargo-nextest
            glibc.static
            iproute2
            nftables
            btrfs-progs
            pkgsStatic.busybox
            lxcfs
            skopeo
            distribution
            crun
            lxc
            podman
            fio
          ];
          VZD_NO_SETUP = "1";
        };
      });

      formatter = forEach (pkgs: pkgs.nixfmt-rfc-style);

      nixosModules.default = self.nixosModules.vzd;
      nixosModules.vzd =
        {
          config,
          lib,
          pkgs,
          ...
        }:
        let
          cfg = config.services.vzd;
          yaml = pkgs.formats.yaml { };
          document =
            kind: name: spec:
            yaml.generate "${name}.yaml" {
              apiVersion = "vzd/v1";
              inherit kind spec;
              metadata.name = name;
            };
          # A value is a spec, or a path to a whole manifest.
          ve = name: value: if builtins.isAttrs value && !lib.isDerivation value then document "VE" name value else value;
          declared =
            lib.mapAttrs' (name: value: lib.nameValuePair "${name}.yaml" (ve name value)) cfg.ves
            // lib.optionalAttrs (cfg.settings != { }) { "host.yaml" = document "Host" "host" cfg.settings; };
        in
        {
          options.services.vzd = {
            enable = lib.mkEnableOption "vzd, declarative system containers";
            package = lib.mkOption {
              type = lib.types.package;
              default = self.packages.${pkgs.stdenv.hostPlatform.system}.vzd;
              defaultText = lib.literalExpression "vzd of this flake";
              description = "The vzd package.";
            };
            manifestsDir = lib.mkOption {
              type = lib.types.path;
              default = "/etc/vzd/manifests";
              description = "The directory of manifests. Files may be put there by hand too, beside those declared here.";
            };
            ves = lib.mkOption {
              type = lib.types.attrsOf (lib.types.either lib.types.path yaml.type);
              default = { };
              example = lib.literalExpression ''
                {
                  web01 = { template = "tiny"; hostname = "web01.example.net"; };
                  db01 = ./db01.yaml;
                }
              '';
              description = ''
                VEs by name: the `spec` of each, or the path of a whole manifest. Taking one out stops and quarantines it.
                Only for the default `manifestsDir`.
              '';
            };
            settings = lib.mkOption {
              type = yaml.type;
              default = { };
              description = "The `spec` of the `Host` manifest.";
            };
            extraFlags = lib.mkOption {
              type = lib.types.listOf lib.types.str;
              default = [ ];
              example = [ "--settle=200" ];
              description = "More options of `vzd run`.";
            };
          };

          config = lib.mkIf cfg.enable {
            assertions = [
              {
                assertion = declared == { } || cfg.manifestsDir == "/etc/vzd/manifests";
                message = "services.vzd.ves and settings are written to /etc/vzd/manifests: leave manifestsDir as it is";
              }
            ];
            environment.systemPackages = [ cfg.package ];
            # A rebuild flips one link for all of them, which vzd takes as one revision.
            environment.etc = lib.mapAttrs' (name: source: lib.nameValuePair "vzd/manifests/${name}" { inherit source; }) declared;
            users.groups.vzd = { };
            systemd.packages = [ cfg.package ];
            systemd.services.vzd-ves.wantedBy = [ "multi-user.target" ];
            systemd.services.vzd = {
              wantedBy = [ "multi-user.target" ];
              # New manifests are noticed; a new controller may come at any time, and VEs go on.
              restartIfChanged = true;
              stopIfChanged = false;
              # Found once at start, by absolute path.
              path = [ pkgs.pkgsStatic.busybox pkgs.iproute2 pkgs.nftables pkgs.util-linux pkgs.kmod ];
              serviceConfig.ExecStart = [
                ""
                (lib.escapeShellArgs (
                  [ (lib.getExe cfg.package) "run" "--manifests" (toString cfg.manifestsDir) ] ++ cfg.extraFlags
                ))
              ];
            };
          };
        };
    };
}
