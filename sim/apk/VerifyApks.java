import com.android.apksig.ApkVerifier;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.security.MessageDigest;
import java.security.cert.X509Certificate;
import java.util.HexFormat;

/** For each path on stdin one line on stdout, as `apksigner verify` judges it: `verified SCHEMES DIGESTS`, or `refused WHY`. */
public class VerifyApks {
  public static void main(String[] args) throws Exception {
    System.setErr(new java.io.PrintStream(java.io.OutputStream.nullOutputStream()));
    var paths = new BufferedReader(new InputStreamReader(System.in));
    for (var path = paths.readLine(); path != null; path = paths.readLine()) {
      System.out.println(judge(new File(path)).replaceAll("[\\r\\n]+", " "));
      System.out.flush();
    }
  }

  private static String judge(File apk) throws Exception {
    ApkVerifier.Result result;
    try {
      result = new ApkVerifier.Builder(apk).build().verify();
    } catch (Throwable fault) {
      return "refused " + fault;
    }
    if (!result.isVerified()) return "refused " + whyNot(result);
    var digests = new StringBuilder();
    for (X509Certificate one : result.getSignerCertificates()) {
      var digest = MessageDigest.getInstance("SHA-256").digest(one.getEncoded());
      digests.append(digests.length() == 0 ? "" : ",").append(HexFormat.of().formatHex(digest));
    }
    var schemes =
        (result.isVerifiedUsingV1Scheme() ? "1" : "")
            + (result.isVerifiedUsingV2Scheme() ? "2" : "")
            + (result.isVerifiedUsingV3Scheme() ? "3" : "");
    return "verified " + schemes + " " + digests;
  }

  private static String whyNot(ApkVerifier.Result result) {
    var all = new StringBuilder();
    for (var one : result.getErrors()) all.append(one).append("; ");
    for (var signer : result.getV1SchemeSigners()) all.append(signer.getErrors()).append("; ");
    for (var signer : result.getV2SchemeSigners()) all.append(signer.getErrors()).append("; ");
    for (var signer : result.getV3SchemeSigners()) all.append(signer.getErrors()).append("; ");
    return all.toString();
  }
}
