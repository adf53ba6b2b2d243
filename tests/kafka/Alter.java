import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.config.ConfigResource;

/**
 * Changes, while brokers run, what they take for a password, or a property of broker 1.
 *
 * <p>Usage: java Alter.java BROKERS password USER PASSWORD, or BROKERS property NAME VALUE
 */
public final class Alter {
    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            if (arguments[1].equals("password")) {
                ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
                admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(arguments[2], info, arguments[3])))
                        .all().get();
            } else {
                ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
                AlterConfigOp set = new AlterConfigOp(new ConfigEntry(arguments[2], arguments[3]), AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(broker, List.of(set))).all().get();
            }
        }
    }
}
