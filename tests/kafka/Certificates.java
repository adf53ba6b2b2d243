import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/**
 * Makes the certificates that the tests need, with the JDK's keytool: an authority; certificates of it for a broker
 * on this machine, for a broker elsewhere, and for two clients; expired ones; and an authority that nobody has asked for anything.
 *
 * <p>keytool runs within this process, because starting it a dozen times takes longer than all its work.
 *
 * <p>Usage: java --add-exports java.base/sun.security.tools.keytool=ALL-UNNAMED Certificates.java FOLDER PASSWORD
 */
public final class Certificates {
    private final Path folder;
    private final String password;

    private Certificates(Path folder, String password) {
        this.folder = folder;
        this.password = password;
    }

    public static void main(String[] arguments) throws Exception {
        Certificates certificates = new Certificates(Path.of(arguments[0]), arguments[1]);
        certificates.authority("authority");
        certificates.authority("stranger");
        certificates.signed("here", "san=ip:127.0.0.1,dns:localhost");
        certificates.signed("elsewhere", "san=dns:kafka.example.com");
        certificates.signed("client", "eku=clientAuth");
        certificates.signed("client-other", "eku=clientAuth");
        // A broker takes a new certificate while it runs only if it is for the same names.
        certificates.expired("here-expired", "here", "san=ip:127.0.0.1,dns:localhost");
        certificates.expired("client-expired", "client", "eku=clientAuth");
    }

    /** NAME.p12 and NAME.pem. */
    private void authority(String name) throws Exception {
        // Older than what it signs: a chain with a link from its future is not believed.
        keytool(name, "-genkeypair", "-dname", "CN=" + name, "-ext", "bc:c", "-ext", "ku:c=keyCertSign",
                "-startdate", "-5d", "-validity", "8");
        keytool(name, "-exportcert", "-rfc", "-file", file(name + ".pem"));
    }

    private void signed(String name, String extension) throws Exception {
        signed(name, name, extension, "-1d", "2");
    }

    /** The same, good for a day that was over two days ago. */
    private void expired(String name, String subject, String extension) throws Exception {
        signed(name, subject, extension, "-3d", "1");
    }

    /** NAME.p12 with key and chain, NAME.pem with the certificate and NAME.key with its private key. */
    private void signed(String name, String subject, String extension, String start, String days) throws Exception {
        keytool(name, "-genkeypair", "-dname", "CN=" + subject, "-validity", "2");
        keytool(name, "-certreq", "-file", file(name + ".request"));
        keytool("authority", "-gencert", "-rfc", "-ext", extension, "-infile", file(name + ".request"),
                "-outfile", file(name + ".pem"), "-startdate", start, "-validity", days);
        Files.writeString(folder.resolve("chain"), read(name + ".pem") + read("authority.pem"));
        // The authority is not in this store, so keytool would ask whether to trust it.
        keytool(name, "-importcert", "-noprompt", "-file", file("chain"));
        KeyStore store = KeyStore.getInstance(folder.resolve(name + ".p12").toFile(), password.toCharArray());
        byte[] key = store.getKey(name, password.toCharArray()).getEncoded();
        String text = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key);
        Files.writeString(folder.resolve(name + ".key"),
                "-----BEGIN PRIVATE KEY-----\n" + text + "\n-----END PRIVATE KEY-----\n");
    }

    /** Exits with 1 and keytool's message if it fails. */
    private void keytool(String store, String command, String... more) throws Exception {
        List<String> words = new ArrayList<>(List.of(command, "-alias", store, "-keystore", file(store + ".p12"),
                "-storetype", "PKCS12", "-storepass", password));
        if (command.equals("-genkeypair")) {
            words.addAll(List.of("-keyalg", "EC", "-groupname", "secp256r1"));
        }
        words.addAll(List.of(more));
        sun.security.tools.keytool.Main.main(words.toArray(String[]::new));
    }

    private String file(String name) {
        return folder.resolve(name).toString();
    }

    private String read(String name) throws IOException {
        return Files.readString(folder.resolve(name), StandardCharsets.UTF_8);
    }
}
