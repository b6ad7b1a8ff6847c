# The two commands of the README, for a bare Debian 12 with a Rust toolchain:
#
#   make demo    installs missing packages, builds the program, audits a bundled capture of a small farm
#   make test    installs missing packages, runs the whole test suite
#
# The tests with Spark, DuckDB and pyarrow are ignored unless these are installed, which takes 900 MB:
#
#   make need-engines    installs them into a cache folder (tests/engines/install.sh)
#
# The packages, in target/dist (docs/install.md):
#
#   make dist          builds them, and checks them on a bare Debian and in an empty chroot; needs root
#   make dist-build    only builds them
#   make dist-check    only checks those that are there; needs root
#
# If a package cannot be installed (no root, no sudo, not Debian), the command to install it by hand is printed.

.PHONY: demo test dist dist-build dist-check need-build need-test need-engines need-dist

demo: need-build
	@cargo build --release --locked
	@echo
	@echo '$$ rasaudit audit fixtures/farm-faults/span.pcap \'
	@echo '      --inventory fixtures/farm-healthy/inventory.toml --out target/demo-report'
	@echo
	@cargo run --release --locked --quiet -- audit fixtures/farm-faults/span.pcap \
	    --inventory fixtures/farm-healthy/inventory.toml --out target/demo-report; \
	code=$$?; \
	if [ $$code -ne 1 ]; then echo "demo: exit code $$code, 1 was expected (findings)" >&2; exit 1; fi
	@echo
	@ls -l target/demo-report
	@echo
	@echo 'The page to look at: target/demo-report/report.html'
	@echo
	@echo 'The three findings are the faults that were injected into the lab farm: a dropped port, a closed'
	@echo 'port, and a client that connects directly to a broker (fixtures/README.md). An audit with'
	@echo 'findings exits with 1.'

test: need-build need-test
	cargo test --locked

dist: need-build need-dist
	@packaging/dist.sh all

dist-build: need-build need-dist
	@packaging/dist.sh build

dist-check:
	@packaging/dist.sh check

need-build:
	@tests/need.sh required build-essential 'command -v cc'
	@tests/need.sh required libpcap-dev 'printf "\043include <pcap/pcap.h>\nint main(void){return 0;}" | cc -x c - -lpcap -o /dev/null'

need-test:
	@tests/need.sh optional tshark 'command -v tshark'
	@tests/need.sh optional iproute2 'command -v ip'
	@tests/need.sh optional iptables 'command -v iptables && command -v ip6tables'
	@tests/need.sh optional tcpdump 'command -v tcpdump'
	@tests/need.sh optional python3 'command -v python3'
	@tests/need.sh optional valgrind 'command -v valgrind'
	@tests/need.sh optional tcpreplay 'command -v tcpreplay'
	@tests/need.sh optional nftables 'command -v nft'
	@tests/need.sh optional procps 'command -v sysctl'
	@tests/need.sh optional ethtool 'command -v ethtool'
	@tests/need.sh optional openssl 'command -v openssl'
	@tests/need.sh optional dnsmasq-base 'command -v dnsmasq'
	@tests/need.sh optional keepalived 'command -v keepalived'
	@tests/need.sh optional smbclient 'command -v rpcclient'
	@tests/need.sh optional python3-samba '/usr/bin/python3 -c "import samba"'
	@tests/need.sh optional samba-common-bin 'test -x /usr/libexec/samba/samba-dcerpcd'
	@tests/need.sh optional strace 'command -v strace'
	@tests/need.sh optional faketime 'command -v faketime'
	@tests/need.sh optional chromium 'command -v chromium'
	@tests/need.sh optional nodejs 'command -v node'
	@tests/need.sh optional npm 'command -v npm'
	@cd tests/browser && { cmp -s package-lock.json node_modules/.rasaudit-lock || \
	    { npm ci --silent && cp package-lock.json node_modules/.rasaudit-lock; } || \
	    echo 'could not install what drives the browser; by hand: cd tests/browser && npm ci' >&2; }

need-engines:
	@tests/need.sh optional default-jre-headless 'command -v java'
	@tests/need.sh optional python3-venv 'python3 -c "import ensurepip, venv"'
	@tests/engines/install.sh

need-dist:
	@tests/need.sh required dpkg-dev 'command -v dpkg-source && command -v dpkg-shlibdeps'
	@tests/need.sh required flex 'command -v flex'
	@tests/need.sh required bison 'command -v bison'
	@tests/need.sh required python3 'command -v python3'
	@llvm=$$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'); \
	    tests/need.sh optional "llvm-$$llvm" "command -v llvm-profdata-$$llvm"
